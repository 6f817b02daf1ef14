"""A small disk of its own for a test: what happens when it is full."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(place: Path, kilobytes: int, files: int = 200) -> Iterator[Path]:
    """A file system in memory at ``place``; only root may mount one."""
    can = sys.platform == "linux" and os.geteuid() == 0
    if not can and os.environ.get("CI") != "true":
        pytest.skip("only root of a Linux machine can mount a disk")
    place.mkdir()
    options = f"size={kilobytes}k,nr_inodes={files}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        # Whatever still uses it keeps it until it ends.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(disk: Path) -> None:
    """Leave no room for a byte, nor for a file."""
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
    with contextlib.suppress(OSError):
        for number in range(100_000):
            (disk / f"filler{number}").touch(exist_ok=False)


def empty(disk: Path) -> None:
    """Take away what ``fill`` wrote."""
    for filler in disk.glob("filler*"):
        filler.unlink()
