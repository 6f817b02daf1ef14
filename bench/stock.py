"""The isolated environment that holds Prefect, unmodified: made once, shared by benchmarks and interop tests.

Prefect is never installed beside Eparch's own packages, and nothing here imports it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

VERSION = "3.8.8"
REQUIREMENTS = (f"prefect=={VERSION}", "fastapi<0.151")  # the server of 3.8.8 fails with a newer FastAPI
ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"


def environment() -> Path:
    """Path of the environment's interpreter; makes the environment when it is not there.

    Processes that ask at the same time wait for the first. ``EPARCH_STOCK_PYTHON`` names an interpreter that
    has Prefect already. Raises ``subprocess.CalledProcessError`` with pip's output on stderr.
    """
    if given := os.environ.get("EPARCH_STOCK_PYTHON"):
        return Path(given)
    home = CACHE / f"prefect-{VERSION}"
    python = home / "bin" / "python"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"prefect-{VERSION}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "complete").exists():
            shutil.rmtree(home, ignore_errors=True)
            install(home, *REQUIREMENTS)
            (home / "complete").touch()
    return python


def install(home: Path, *requirements: str) -> Path:
    """Make a fresh virtual environment at ``home`` with ``requirements``; its interpreter's path."""
    venv.EnvBuilder(with_pip=True).create(home)
    python = home / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=ROOT)
    return python
