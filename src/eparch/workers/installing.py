"""Brings the package of a worker type (row W10): an extra of Eparch, or the package that the server names.

Owns when something is installed, and what. pip does it, in a process of its own.
"""

from __future__ import annotations

import importlib
import logging
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

from eparch.core import calls
from eparch.core.errors import EparchError, InfrastructureError, NotFound
from eparch.core.infrastructure_types import NAMES
from eparch.workers.infrastructure import Infrastructure, find_type
from eparch.workers.options import InstallPolicy
from eparch.workers.sources import Sender

logger = logging.getLogger("eparch.worker")

VIEW = "aggregate-worker-metadata"

_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def bring_type(sender: Sender, type_name: str, policy: InstallPolicy) -> type[Infrastructure[Any]]:
    """The infrastructure class of a worker type, installed first where the policy says so.

    Raises:
        NotFound: there is no such type, and nothing that brings it.
        InfrastructureError: its package is broken, or could not be installed.
    """
    if policy == "always":
        requirement = find_requirement(sender, type_name)
        if requirement is not None:
            install(requirement)
    try:
        return find_type(type_name)
    except (NotFound, InfrastructureError) as error:
        if policy in ("never", "always"):
            raise
        requirement = find_requirement(sender, type_name)
        if requirement is None:
            raise
        if policy == "prompt" and not _agreed(type_name, requirement):
            error.fix = f"pip install '{requirement}', or add '--install-policy if-not-present'"
            raise
    install(requirement)
    return find_type(type_name)


def find_requirement(sender: Sender, type_name: str) -> str | None:
    """What pip has to install for the type; None if nobody knows, or it comes with Eparch."""
    try:
        extras = metadata("eparch").get_all("Provides-Extra") or []
    except PackageNotFoundError:
        extras = []
    if type_name in NAMES and type_name in extras:
        return f"eparch[{type_name}]"
    try:
        listed = sender.send(calls.read_collection_view(view=VIEW))
    except EparchError as error:
        logger.warning("It is not known which package brings '%s': %s", type_name, error)
        return None
    for package, brought in listed.items():
        ours = package == "eparch" or package.startswith("prefect")
        if not ours and isinstance(brought, dict) and type_name in brought and _PACKAGE.fullmatch(package):
            return package
    return None


def install(requirement: str) -> None:
    """Let pip install it for this Python.

    Raises:
        InfrastructureError: it could not.
    """
    logger.info("pip installs '%s'", requirement)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--upgrade",
        "--disable-pip-version-check",
        requirement,
    ]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["pip says nothing"]
        raise InfrastructureError(
            f"'{requirement}' could not be installed", why=last[0][:500], fix="Install it by hand."
        )
    importlib.invalidate_caches()


def _agreed(type_name: str, requirement: str) -> bool:
    """Whether a person who is there says yes; where nobody is, that is a no."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"The worker type '{type_name}' is not installed. Install '{requirement}' [y/N]? ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
