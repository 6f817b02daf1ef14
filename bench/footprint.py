"""The rows about what the product costs before it does anything: wall time of a command, memory, disk."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

from bench import stock
from bench.rows import Reading
from bench.targets import Session

TIMES = 7
SETTLE = 2.0  # seconds that a server gets to finish its start before its memory is read
INSTALLERS = ("pip", "setuptools", "_distutils_hack", "pkg_resources", "wheel")


def time_command(session: Session, command: list[str]) -> Reading:
    """Median wall seconds of a command, after one run that warms the disk cache."""
    seconds = []
    for _ in range(TIMES + 1):
        begun = time.perf_counter()
        subprocess.run(command, env=session.environment(), cwd=session.home, check=True, capture_output=True)
        seconds.append(time.perf_counter() - begun)
    return Reading(statistics.median(seconds[1:]))


def measure_version(session: Session) -> Reading:
    """Wall seconds of ``--version``."""
    return time_command(session, session.target.command("--version"))


def measure_import(session: Session) -> Reading:
    """Wall seconds of a process that imports what a flow file imports."""
    script = f"from {session.target.module} import flow, task"
    return time_command(session, [str(session.target.python), "-c", script])


def measure_server_start(session: Session) -> Reading:
    """Median seconds from the process to the first healthy answer, each time with a new database."""
    seconds = []
    for number in range(3):
        home = session.home / f"start-{number}"
        home.mkdir()
        with Session(session.target, home).serve() as fresh:
            seconds.append(fresh.started)
    return Reading(statistics.median(seconds), note=f"min {min(seconds):.2f} s, max {max(seconds):.2f} s")


def measure_server_memory(session: Session) -> Reading:
    """Megabytes that a server and its children hold after its start."""
    home = session.home / "memory"
    home.mkdir()
    with Session(session.target, home).serve() as fresh:
        assert fresh.process is not None
        time.sleep(SETTLE)
        table = subprocess.run(
            ["ps", "-A", "-o", "pgid=,rss="], check=True, capture_output=True, text=True
        ).stdout
        members = [line.split() for line in table.splitlines()]
        group = str(fresh.process.pid)  # a spawned process leads its group
        return Reading(sum(int(kilobytes) for owner, kilobytes in members if owner == group) * 1024 / 1e6)


def find_installation(session: Session) -> Path:
    """Site-packages of an environment that holds the product and nothing else; made once a session."""
    if session.target.name == "prefect":
        python = stock.environment()
    else:
        home = session.home.parent / "fresh"
        python = home / "bin" / "python" if home.exists() else stock.install(home, str(stock.ROOT))
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return Path(
        subprocess.run([str(python), "-c", script], check=True, capture_output=True, text=True).stdout.strip()
    )


def is_installer(name: str) -> bool:
    """Whether a name in site-packages belongs to what every environment has."""
    return name.split("-")[0].split(".")[0] in INSTALLERS or name == "distutils-precedence.pth"


def measure_size(session: Session) -> Reading:
    """Megabytes of disk that site-packages takes, without pip and setuptools."""
    folder = find_installation(session)
    files = (
        path for top in folder.iterdir() if not is_installer(top.name) for path in (top, *top.rglob("*"))
    )  # fmt: skip
    return Reading(sum(path.lstat().st_blocks * 512 for path in files if path.is_file()) / 1e6)


def measure_packages(session: Session) -> Reading:
    """Distributions in site-packages, without pip and setuptools."""
    names = [path.name for path in find_installation(session).glob("*.dist-info")]
    return Reading(sum(not is_installer(name) for name in names))


def describe_machine() -> str:
    """One line: processors, memory, system, interpreter."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = platform.processor() or platform.machine()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    system = f"{platform.system()} {platform.release()}"
    return f"{os.cpu_count()} x {model}, {memory:.0f} GiB, {system}, Python {platform.python_version()}"
