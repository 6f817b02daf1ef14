"""What the pages say is so: commands and snippets of README.md work as written, links lead somewhere.

Eparch is installed from a copy of the tree into an environment of its own, as the page tells people to.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from .conftest import bare_environment

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text()
PATIENCE = 60.0


def blocks(language: str, heading: str) -> list[str]:
    """The code blocks of ``language`` under a heading of the README."""
    (text,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", README, re.DOTALL | re.MULTILINE)
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return found


@dataclass
class Terminal:
    """A person's shell: a folder to be in, an environment, and commands that go on behind it."""

    folder: Path
    env: dict[str, str]
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def type(self, command: str) -> str:
        """Run a command, which may change the folder, to its end; what it printed."""
        done = subprocess.run(
            ["sh", "-c", f"{command}\ncode=$?; pwd >~/folder; exit $code"],
            cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=300, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self.folder = Path(Path(self.env["HOME"], "folder").read_text().strip())
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def leave_running(self, command: str, until: str) -> None:
        """Start a command that does not end; returns once it has said ``until``."""
        process = subprocess.Popen(
            ["sh", "-c", f"exec {command}"], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.running.append(process)
        assert process.stdout is not None
        said, deadline = b"", time.monotonic() + PATIENCE
        while until.encode() not in said:
            answers, _, _ = select.select([process.stdout], [], [], max(deadline - time.monotonic(), 0))
            part = os.read(process.stdout.fileno(), 65536) if answers else b""
            said += part
            assert part, f"$ {command}\n{said.decode()}"

    def close(self) -> None:
        """Stop what runs, the last one first, as Ctrl-C does."""
        for process in reversed(self.running):
            process.send_signal(signal.SIGINT)
            try:
                code = process.wait(PATIENCE)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                assert process.stdout is not None
                process.stdout.close()
            assert code == 0, f"{process.args!r} ended with code {code}"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is needed to install, in the folder ``eparch``; beside it, an environment: ``venv``."""
    place = tmp_path_factory.mktemp("readme")
    tree = place / "eparch"
    tree.mkdir()
    for name in ("src", "examples", "scripts"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "Makefile"):
        shutil.copyfile(ROOT / name, tree / name)
    venv.EnvBuilder(with_pip=True).create(place / "venv")
    return tree


@pytest.fixture(scope="module")
def installed(checkout: Path) -> Path:
    """``checkout`` with Eparch installed; without a network, a developer skips and CI fails."""
    environ = environment(checkout, Path.home())
    done = subprocess.run(
        ["sh", "-c", install_command()],
        cwd=checkout,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"nothing can be installed here: {done.stderr}")
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout


def environment(checkout: Path, home: Path, **more: str) -> dict[str, str]:
    """The environment of somebody whose virtual environment is active, with no setting of who tests."""
    own = {"HOME": str(home), "PATH": f"{checkout.parent / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    return bare_environment() | own | more


def install_command() -> str:
    """The first command of the tour."""
    return blocks("sh", "Five minutes by hand")[0].splitlines()[0]


@pytest.fixture
def terminal(installed: Path, tmp_path: Path) -> Iterator[Terminal]:
    """A shell in a fresh copy of the examples, with a home of its own."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copytree(installed / "examples", tmp_path / "tree" / "examples")
    opened = Terminal(tmp_path / "tree", environment(installed, home))
    try:
        yield opened
    finally:
        opened.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_targets_of_make_are_there(checkout: Path) -> None:
    (block,) = blocks("sh", "See it work")
    commands = [line.partition("#")[0].split() for line in block.splitlines()]
    assert [words[0] for words in commands] == ["make"] * len(commands)
    assert {words[1] for words in commands} == {"demo", "test"}
    for words in commands:
        subprocess.run([words[0], "-n", *words[1:]], cwd=checkout, check=True, capture_output=True)


def test_five_minutes_by_hand(terminal: Terminal) -> None:
    port = free_port()
    terminal.env["EPARCH_SERVER_PORT"] = str(port)
    commands = [line for block in blocks("sh", "Five minutes by hand") for line in block.splitlines()]
    assert commands.pop(0) == install_command()
    said: dict[str, str] = {}
    for line in commands:
        command = line.replace("4200", str(port))
        if line == "eparch server start":
            terminal.leave_running(command, f"serves http://127.0.0.1:{port}/api")
            del terminal.env["EPARCH_SERVER_PORT"]
        elif line.startswith("eparch worker start"):
            terminal.leave_running(command, "serves the pool 'local'")
        elif "ID" in line.split():
            newest = terminal.type("eparch flow-run ls --state Completed -o name").split()[0]
            said[line] = terminal.type(command.replace("ID", newest))
        else:
            said[line] = terminal.type(command)
    assert terminal.folder.name == "stdlib_report"
    assert (Path(terminal.env["HOME"]) / ".eparch" / "eparch.db").exists()
    assert "Completed" in said["eparch flow-run ls"]
    assert "reporting on the whole standard library" in said["eparch flow-run logs ID"]
    terminal.type("eparch doctor")


def test_the_flow_runs_and_is_deployed(terminal: Terminal) -> None:
    (python,), (yaml,) = blocks("python", "A flow"), blocks("yaml", "A deployment")
    (terminal.folder / "weather.py").write_text(python)
    (terminal.folder / "prefect.yaml").write_text(yaml)
    try:
        terminal.type("python weather.py")  # with the local server that it starts for itself
        assert terminal.type("eparch flow-run ls --state Completed -o name").split()
    finally:
        terminal.type("eparch server stop")
    terminal.leave_running("eparch server start --port 0", "serves http://")
    terminal.type("eparch work-pool create local --type process")
    terminal.type("eparch deploy --all")
    terminal.leave_running("eparch worker start --pool local", "serves the pool")
    shown = terminal.type("eparch deployment run weather/nightly --watch")
    assert "Completed" in shown
    assert "0 6 * * *" in terminal.type("eparch deployment inspect weather/nightly -o json")


def test_a_secret_is_kept_and_an_automation_is_tried_out(terminal: Terminal) -> None:
    terminal.leave_running("eparch server start --port 0", "serves http://")
    (block,) = blocks("sh", "Secrets, events and work in the background")
    said = {line: terminal.type(f"{line} 2>&1") for line in block.splitlines()}
    assert "correct horse" not in terminal.type("eparch block inspect secret/api-key -o json")
    assert "failed-runs" in terminal.type("eparch automation ls")
    assert "Would have fired 0 times" in said["eparch automation dry-run failed-runs"]
    for kept in (Path(terminal.env["HOME"]) / ".eparch").glob("eparch.db*"):
        assert b"correct horse" not in kept.read_bytes()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name} points to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            assert anchor in {anchor_of(title) for title in titles}, f"{page.name} points to {target}"


def anchor_of(title: str) -> str:
    """What a heading is called in a link."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
