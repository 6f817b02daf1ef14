"""The rules of the house that a program can check: sizes, names, floors, docstrings, light imports.

Style and types are checked by ``make lint``, which ``make test`` runs first.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "eparch"
MOST_LINES_OF_A_FILE = 600
MOST_LINES_OF_A_FUNCTION = 60
SHAPELESS = {
    "utils",
    "util",
    "common",
    "helpers",
    "helper",
    "base",
    "manager",
    "managers",
    "misc",
    "_internal",
    "v2",
}

HEAVY = {
    "sqlalchemy", "alembic", "starlette", "uvicorn", "rich", "ruamel", "pydantic", "jsonschema",
    "dateutil", "asyncpg", "websockets", "uvloop", "jinja2", "cloudpickle",
}  # fmt: skip

# Built from pieces, so that this file does not hold what it looks for.
PLACES = re.compile(
    "|".join(
        [
            r"(?<![\w.}\)-])/(?:" + "|".join(["work", "farm", "root"]) + ")/",
            "https?://" + r"pypi\.org",
            "registry" + r"\.npmjs",
            "deb" + r"\.debian\.org",
        ]
    )
)


def find_sources(*folders: str) -> list[Path]:
    """Python files below folders of the repository."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def find_committed() -> Iterator[Path]:
    """Files that are committed or about to be: everything that git does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            yield ROOT / name


def test_no_file_is_longer_than_600_lines() -> None:
    sizes = {
        path: len(path.read_text().splitlines()) for path in find_sources("src", "tests", "bench", "scripts")
    }
    assert sizes, "no file was found"
    assert {path.name: size for path, size in sizes.items() if size > MOST_LINES_OF_A_FILE} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    long = {}
    for path in find_sources("src", "bench", "scripts"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    long[f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"] = lines
    assert long == {}


def test_every_module_says_what_it_owns() -> None:
    silent = [
        path for path in find_sources("src", "bench") if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert [str(path.relative_to(ROOT)) for path in silent] == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    parts = {
        part for path in PACKAGE.rglob("*.py") for part in path.relative_to(PACKAGE).with_suffix("").parts
    }
    assert parts & SHAPELESS == set()


def test_nothing_committed_names_a_machine_or_a_registry() -> None:
    found = []
    for path in find_committed():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        lines = text.splitlines()
        found += [f"{path.relative_to(ROOT)}:{n}" for n, line in enumerate(lines, 1) if PLACES.search(line)]
    assert found == []


@pytest.mark.parametrize("text", ["/" + "work/x", 'open("/' + 'root/.ssh")', "https://pypi" + ".org/simple"])
def test_the_search_for_places_finds_them(text: str) -> None:
    assert PLACES.search(text)


@pytest.mark.parametrize("text", ["/api/work_pools/", "{base}/work/", "docs/root/"])
def test_the_search_for_places_leaves_the_rest(text: str) -> None:
    assert not PLACES.search(text)


def test_imports_go_down_only() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([str(lint)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def imported(*arguments: str) -> set[str]:
    """Top-level names of what a fresh interpreter imports when it runs with ``arguments``."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    times = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip().partition(".")[0] for line in times}


@pytest.mark.parametrize(
    "arguments", [("-m", "eparch", "--version"), ("-m", "eparch", "--help")], ids=["v", "h"]
)
def test_the_command_line_starts_light(arguments: tuple[str, ...]) -> None:
    names = imported(*arguments)
    assert "eparch" in names
    assert names & (HEAVY | {"asyncio"}) == set()


def test_importing_the_package_costs_nothing() -> None:
    bare = imported("-c", "pass")
    added = imported("-c", "import eparch") - bare
    assert "eparch" in added
    assert added & (HEAVY | {"asyncio", "msgspec", "click"}) == set()


def test_importing_what_a_flow_file_needs_is_light() -> None:
    assert imported("-c", "from eparch import flow, task") & HEAVY == set()


def test_make_alone_tells_every_target() -> None:
    told = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {line.split()[1] for line in told.splitlines()} == set(phony.split())
