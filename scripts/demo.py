"""The main job from end to end, with the public command line alone: what ``make demo`` runs.

Server, work pool, two deployments, worker, two runs with live logs, a table. Everything happens in a
temporary home that is removed at the end; every process is stopped. The exit code is 0, or 1 with the part
that failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "examples" / "stdlib_report"
EPARCH = [sys.executable, "-m", "eparch"]
PATIENCE = 30.0  # seconds that the server gets to start, and a process to stop


class Failed(Exception):
    """A part of the demo did not work; the message says what was seen."""


def say(text: str) -> None:
    """Print a headline."""
    print(f"\n==> {text}", flush=True)


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """One part of the demo: its name goes into the message of whatever fails in it."""
    say(name)
    try:
        yield
    except Exception as error:
        raise Failed(f"{name}: {error}") from error


def run(*arguments: str, capture: bool = False, timeout: float = 50.0) -> str:
    """Run one command of ``eparch`` in the example's folder; its output when captured. Raises on failure."""
    print("$ eparch " + " ".join(arguments), flush=True)
    done = subprocess.run(
        [*EPARCH, *arguments], cwd=PROJECT, timeout=timeout, check=False, text=True,
        stdout=subprocess.PIPE if capture else None,
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"`eparch {' '.join(arguments)}` ended with code {done.returncode}\n{done.stdout or ''}")
    return done.stdout or ""


def stop(process: subprocess.Popen[str]) -> int:
    """Ask a process to stop; its exit code. One that does not listen is killed and gives -SIGKILL."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


@contextlib.contextmanager
def background(home: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that runs for the length of the block; a failing block prints its output."""
    print("$ eparch " + " ".join(arguments) + " &", flush=True)
    log = home / f"{arguments[0]}.log"
    with log.open("w") as sink:
        process = subprocess.Popen(
            [*EPARCH, *arguments],
            cwd=PROJECT, stdout=sink, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    except BaseException:
        stop(process)
        print(f"--- log of `eparch {' '.join(arguments[:2])}`\n{log.read_text()[-3000:]}", file=sys.stderr)
        raise
    ended_early = process.poll() is not None
    code = stop(process)
    if ended_early or code not in (0, -signal.SIGTERM, 128 + signal.SIGTERM):
        raise Failed(f"`eparch {' '.join(arguments[:2])}` ended with code {code}\n{log.read_text()[-2000:]}")
    if group_lives(process.pid):
        raise Failed(f"`eparch {' '.join(arguments[:2])}` left a process behind")


def group_lives(leader: int) -> bool:
    """Whether a process of the group is still there."""
    try:
        os.killpg(leader, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_server(port: int, process: subprocess.Popen[str]) -> None:
    """Return once the server accepts connections; raises when its process ends or takes too long."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            raise Failed(f"the server ended with code {process.returncode}")
        if time.monotonic() > deadline:
            raise Failed(f"the server does not listen on port {port}")
        time.sleep(0.02)


def print_table() -> None:
    """Print what ran, and insist that both runs completed."""
    runs = json.loads(run("flow-run", "ls", "--limit", "20", "-o", "json", capture=True))
    ran = [found for found in runs if found["state_type"] != "SCHEDULED"]
    print(f"\n{'run':28} {'state':12} {'started':26} {'seconds':>8}")
    for found in ran:
        started, seconds = str(found["start_time"])[:26], found["total_run_time"]
        print(f"{found['name']:28} {found['state_name']:12} {started:26} {seconds:8.2f}")
    completed = [found for found in ran if found["state_type"] == "COMPLETED"]
    if len(completed) < 2:
        raise Failed(f"{len(completed)} of 2 runs are Completed")


def play(home: Path) -> None:
    """The demo itself; ``home`` is an empty folder."""
    port = free_port()
    os.environ["EPARCH_API_URL"] = f"http://127.0.0.1:{port}/api"
    with contextlib.ExitStack() as stack:
        with part("server"):
            server = stack.enter_context(background(home, "server", "start", "--port", str(port)))
            wait_for_server(port, server)
        with part("work pool"):
            run("work-pool", "create", "local", "--type", "process")
        with part("deploy"):
            run("deploy", "--all")
        with part("worker"):
            stack.enter_context(background(home, "worker", "start", "--pool", "local", "--name", "demo"))
        for name in ("report/quick", "report/nightly"):
            with part(f"run {name}"):
                run("deployment", "run", name, "--watch")
        with part("results"):
            print_table()
        say("stop")


def main() -> int:
    """Play the demo in a temporary home and clean up."""
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up as Ctrl-C does
    home = Path(tempfile.mkdtemp(prefix="eparch-demo-"))
    for name in [name for name in os.environ if name.startswith(("EPARCH_", "PREFECT_"))]:
        del os.environ[name]  # the demo is the same whatever the caller has set
    try:
        os.environ["EPARCH_HOME"] = str(home)
        os.environ["TMPDIR"] = str(home)
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        play(home)
    except (Failed, KeyboardInterrupt) as error:
        print(f"\nThe demo failed at {error}" if str(error) else "\nInterrupted.", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(home, ignore_errors=True)
    say(f"all good, in {time.monotonic() - begun:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
