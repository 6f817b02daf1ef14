"""Where a project's code comes from: its repository and commit, as git tells them (moonshot 1, row D25).

Never a reason to fail: a folder without git has neither.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

SECONDS = 5.0
"""A git that takes longer, on a share that is away, is not waited for."""

_USER = re.compile(r"^(https?://)[^@/]*@", re.IGNORECASE)
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*://(?:[^@/]*@)?|^[^@/:]+@(?=[^/]*:)", re.IGNORECASE)


class CodeOrigin(NamedTuple):
    """What git knows of a folder; None: nothing."""

    repository: str | None
    commit: str | None


def read_origin(root: Path) -> CodeOrigin:
    """The repository and the commit of ``root``; ``-dirty`` is added where files were changed since."""
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return CodeOrigin(None, None)
    if _git(root, "status", "--porcelain", "--untracked-files=no"):
        commit += "-dirty"
    url = _git(root, "config", "--get", "remote.origin.url")
    return CodeOrigin(plain_url(url) if url else None, commit)


def read_checkout(root: Path) -> tuple[str, str]:
    """The address that ``root`` is cloned from, without user and secret, and its branch; empty: none."""
    url = _git(root, "config", "--get", "remote.origin.url") or ""
    branch = _git(root, "symbolic-ref", "--short", "-q", "HEAD") or ""
    return _USER.sub(r"\1", url), branch


def plain_url(url: str) -> str:
    """The address without scheme, user and secret, so that every clone has the same one."""
    plain = _SCHEME.sub("", url.strip())
    if "://" not in url:
        plain = plain.replace(":", "/", 1)
    return plain.removesuffix("/").removesuffix(".git")


def project_id(name: str | None, repository: str | None) -> str | None:
    """What owns the deployments of a file: its ``name``, and its repository; None without a name."""
    if not name:
        return None
    return f"{name} of {repository}" if repository else name


def inferred_version(version: str | None, kind: str | None, origin: CodeOrigin) -> str | None:
    """``version``; where none is given and ``kind`` says that git knows it, the short commit."""
    if version is None and kind is not None and kind.startswith("vcs:") and origin.commit:
        commit, dash, dirty = origin.commit.partition("-")
        return commit[:8] + dash + dirty
    return version


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
