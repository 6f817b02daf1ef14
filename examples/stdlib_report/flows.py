"""A report on the Python standard library's own source: real work on input that every machine has.

It finds the modules, parses them in mapped tasks, adds up what they hold, survives a task that fails once
and writes a Markdown artifact. Run it by hand with ``python flows.py``, or deploy it with ``prefect.yaml``.
"""

import ast
import os
import sysconfig
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Lock

from eparch import create_markdown_artifact, flow, task, unmapped

LEFT_OUT = {
    "test",
    "tests",
    "idlelib",
    "site-packages",
    "dist-packages",
    "__pycache__",
    "turtledemo",
    "lib2to3",
}
PARSER = Lock()  # CPython 3.11 loses count of its depth when threads parse at once


@dataclass
class Summary:
    """What a batch of modules holds."""

    modules: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0
    unreadable: list[str] = field(default_factory=list)
    longest: list[tuple[int, str]] = field(default_factory=list)
    imports: dict[str, int] = field(default_factory=dict)


@task
def find_modules(packages: list[str] | None) -> list[str]:
    """Paths of the library's modules below its folder; ``packages`` keeps only those top-level names."""
    root = Path(sysconfig.get_path("stdlib"))
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if LEFT_OUT.isdisjoint(parts) and (not packages or Path(parts[0]).stem in packages):
            found.append("/".join(parts))
    print(f"{len(found)} modules in the standard library of Python {sysconfig.get_python_version()}")
    return found


@task(task_run_name="parse-{batch[0]}")
def parse(batch: list[str], top: int) -> dict:
    """Parse a batch of modules and sum up what they hold."""
    root = Path(sysconfig.get_path("stdlib"))
    summary = Summary()
    for name in batch:
        try:
            source = (root / name).read_text(encoding="utf-8")
            with PARSER:
                tree = ast.parse(source)
        except (SyntaxError, UnicodeDecodeError, OSError):
            summary.unreadable.append(name)
            continue
        summary.modules += 1
        summary.lines += source.count("\n")
        count_nodes(tree, name, summary)
    summary.longest = sorted(summary.longest, reverse=True)[:top]
    return asdict(summary)


def count_nodes(tree: ast.AST, name: str, summary: Summary) -> None:
    """Add the functions, classes and imports of one module to ``summary``."""
    imports = Counter(summary.imports)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            summary.functions += 1
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            summary.longest.append((length, f"{name}: {node.name}"))
        elif isinstance(node, ast.ClassDef):
            summary.classes += 1
        elif isinstance(node, ast.Import):
            imports.update({alias.name.partition(".")[0] for alias in node.names})
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports[node.module.partition(".")[0]] += 1
    summary.imports = dict(imports)


@task(retries=1, retry_delay_seconds=0.1)
def reserve(marker: str) -> str:
    """Take the report's place; fails on its first attempt, as a busy disk or network would."""
    if Path(marker).exists():
        Path(marker).unlink()
        raise ConnectionError("the shelf is busy for a moment")
    return "reserved at the second attempt"


@task
def add_up(parts: list[dict], top: int) -> dict:
    """One summary of all batches."""
    total = Summary()
    for part in parts:
        total.modules += part["modules"]
        total.lines += part["lines"]
        total.functions += part["functions"]
        total.classes += part["classes"]
        total.unreadable += part["unreadable"]
        total.longest += [tuple(entry) for entry in part["longest"]]
        total.imports = dict(Counter(total.imports) + Counter(part["imports"]))
    total.longest = sorted(total.longest, reverse=True)[:top]
    return asdict(total)


def make_page(total: dict, top: int) -> str:
    """The report as Markdown."""
    lines = [f"# Python {sysconfig.get_python_version()}: the standard library", ""]
    lines += ["| what | how many |", "| --- | ---: |"]
    lines += [f"| {what} | {total[what]:,} |" for what in ("modules", "lines", "functions", "classes")]
    lines += ["", "## Imported most", ""]
    lines += [f"- `{name}`: {count}" for name, count in Counter(total["imports"]).most_common(top)]
    lines += ["", "## Longest functions", ""]
    lines += [f"- {length} lines: `{name}`" for length, name in total["longest"]]
    return "\n".join(lines) + "\n"


@task
def write(page: str, output: str, place: str) -> str:
    """Write the page as an artifact and, where ``output`` is given, to that file."""
    create_markdown_artifact(page, key="stdlib-report", description="What the standard library holds")
    if output:
        Path(output).write_text(page, encoding="utf-8")
    print(f"report of {len(page.splitlines())} lines written, {place}")
    return page


@flow(log_prints=True)
def report(packages: list[str] | None = None, batches: int = 40, top: int = 10, output: str = "") -> str:
    """Report on the standard library: all of it, or only ``packages``; parsed in about ``batches`` tasks."""
    title = os.environ.get("REPORT_TITLE", "standard library")
    print(f"reporting on the {title}")
    with NamedTemporaryFile(prefix="report-", delete=False) as marker:
        place = reserve.submit(marker.name)
    modules = find_modules(packages)
    size = max(1, -(-len(modules) // batches))
    groups = [modules[start : start + size] for start in range(0, len(modules), size)]
    parsed = parse.map(groups, unmapped(top))
    total = add_up([future.result() for future in parsed], top, wait_for=[place])
    print(f"{total['lines']:,} lines, {total['functions']:,} functions in {total['modules']} modules")
    return write(make_page(total, top), output, place)


if __name__ == "__main__":
    report()
