"""The step ``git_clone``: a repository's code in a directory, by the git command line.

Owns how a clone is made, brought up to date and authenticated. A token is never an argument of a process and
never in a log: git reads it from its environment (``GIT_CONFIG_*``, git-config(1)).
"""

from __future__ import annotations

import base64
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from eparch.core.errors import StepFailed
from eparch.steps.command import run_command, tell

ATTEMPTS = 3
"""How often a fetch is tried before the step fails."""

_LASTING = re.compile(
    r"Authentication failed|could not read Username|not found|does not exist|does not appear to be a git"
    r"|couldn't find remote ref|Permission denied|unadvertised object|not our ref|HTTP Basic: Access denied"
    r"|could not be started",
    re.IGNORECASE,
)
_MARK = ".git/eparch-clone"
"""Holds the URL that this step cloned: what it made it may also replace."""

_SHA = re.compile(r"[0-9a-fA-F]{4,64}")
_pause = time.sleep


def git_clone(
    repository: str,
    branch: str | None = None,
    commit_sha: str | None = None,
    include_submodules: bool = False,
    access_token: str | None = None,
    credentials: Any = None,
    directories: list[str] | None = None,
    clone_directory_name: str | None = None,
) -> dict[str, str]:
    """Clone ``repository`` into the working directory, at ``branch`` (or a tag), ``commit_sha`` or its HEAD.

    Only the newest commit is fetched. A clone that is there is brought up to date, made anew if that fails
    or if this step made it of another repository; any other directory is left alone. ``directories`` limits
    the checkout to these. The directory is called ``clone_directory_name``, else after the repository and the
    branch.

    Returns:
        ``directory``: where it is, relative to the working directory.

    Raises:
        StepFailed: the arguments do not fit, or git failed three times.
    """
    _check(branch, commit_sha, access_token, credentials, directories, clone_directory_name)
    url, embedded = _without_userinfo(repository)
    secret = _userinfo(url, access_token, credentials) or embedded
    clone = _Clone(
        url=url,
        path=Path(clone_directory_name or _directory_name(url, branch)),
        branch=branch,
        commit_sha=commit_sha,
        submodules=include_submodules,
        directories=tuple(directories or ()),
        secret=secret,
    )
    clone.bring()
    return {"directory": str(clone.path)}


@dataclass(frozen=True, slots=True)
class _Clone:
    """One clone: where from, where to, and at which commit."""

    url: str
    path: Path
    branch: str | None
    commit_sha: str | None
    submodules: bool
    directories: tuple[str, ...]
    secret: str
    """``user:password``, or empty."""

    def bring(self) -> None:
        """Make the directory hold the wanted commit."""
        if not self.path.exists():
            self.make()
            return
        if not self.is_of_another():
            try:
                self.update()
                return
            except StepFailed as error:
                tell(f"'{self.path}' could not be brought up to date and is cloned again: {error.message}")
        # The old one stays until there is a new one.
        fresh = replace(self, path=self.path.with_name(f".{self.path.name}.new"))
        shutil.rmtree(fresh.path, ignore_errors=True)
        fresh.make()
        shutil.rmtree(self.path)
        fresh.path.rename(self.path)

    def make(self) -> None:
        """Clone; a clone that failed leaves no directory."""
        self.path.mkdir(parents=True)
        try:
            self.git("init", "--quiet")
            (self.path / _MARK).write_text(self.url)
            self.git("remote", "add", "origin", self.url)
            self.update()
        except BaseException:
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def update(self) -> None:
        """Fetch the wanted commit and check it out, dropping local changes."""
        if self.directories:
            self.git("sparse-checkout", "set", *self.directories)
        self.fetch()
        if self.branch:
            self.git("checkout", "--quiet", "--force", "-B", self.branch, "FETCH_HEAD")
        else:
            self.git("checkout", "--quiet", "--force", "--detach", self.commit_sha or "FETCH_HEAD")
        if self.submodules:
            self.retry("submodule", "update", "--init", "--recursive", "--depth", "1")

    def fetch(self) -> None:
        """Fetch one commit; where a server gives none by its name, all of them."""
        narrow = ("fetch", "--quiet", "--depth", "1", *(("--filter=blob:none",) if self.directories else ()))
        if self.commit_sha is None:
            self.retry(*narrow, "origin", self.branch or "HEAD")
            return
        try:
            self.retry(*narrow, "origin", self.commit_sha)
        except StepFailed:
            # A short name, or a server that only gives out branches (uploadpack.allowReachableSHA1InWant).
            shallow = (self.path / ".git" / "shallow").exists()
            every = ("--unshallow",) if shallow else ()
            self.retry("fetch", "--quiet", "--tags", *every, "origin", "+refs/heads/*:refs/remotes/origin/*")

    def retry(self, *arguments: str) -> None:
        """``git`` with what may fail for a moment: tried again, unless the answer will stay the same."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self.git(*arguments)
                return
            except StepFailed as error:
                if attempt == ATTEMPTS or _LASTING.search(f"{error.message} {error.why}"):
                    raise
                tell(f"git {arguments[0]} failed and is tried again: {error.why.splitlines()[-1:]}")
                _pause(attempt**2)

    def git(self, *arguments: str) -> None:
        """Run git in the clone."""
        run_command(
            ["git", *arguments],
            directory=self.path,
            env=dict(self.environment()),
            shown=f"git {' '.join(arguments)}",
            hidden=self.hidden(),
        )

    def hidden(self) -> tuple[str, ...]:
        """What must not be told: the secret in every form that git may repeat."""
        if not self.secret:
            return ()
        return (self.secret, self.secret.partition(":")[2], _basic(self.secret))

    def environment(self) -> Iterator[tuple[str, str]]:
        """Never ask on a terminal; send the secret to this repository's server only."""
        yield "GIT_TERMINAL_PROMPT", "0"
        yield "GIT_SSH_COMMAND", "ssh -o BatchMode=yes"
        parts = urlsplit(self.url)
        if self.secret and parts.scheme in ("http", "https"):
            yield "GIT_CONFIG_COUNT", "1"
            yield "GIT_CONFIG_KEY_0", f"http.{parts.scheme}://{parts.netloc}/.extraHeader"
            yield "GIT_CONFIG_VALUE_0", f"Authorization: Basic {_basic(self.secret)}"

    def is_of_another(self) -> bool:
        """Whether the directory is a clone that this step made of another repository.

        Raises:
            StepFailed: it is something that this step did not make; that is never overwritten.
        """
        mark = self.path / _MARK
        if mark.is_file():
            return mark.read_text(errors="replace") != self.url
        known = ""
        if (self.path / ".git").exists():
            captured = run_command(
                ["git", "config", "--get", "remote.origin.url"], directory=self.path, stream_output=False
            )
            known = _without_userinfo(captured.stdout)[0]
        if known != self.url:
            raise StepFailed(
                f"'{self.path}' is in the way of the clone",
                why=f"it is a clone of {known}" if known else "it is not a clone of a repository",
                fix="remove it, or set 'clone_directory_name'",
            )
        return False


def _check(
    branch: str | None,
    commit_sha: str | None,
    access_token: str | None,
    credentials: Any,
    directories: list[str] | None,
    name: str | None,
) -> None:
    if branch and commit_sha:
        raise StepFailed("git_clone takes 'branch' or 'commit_sha', not both")
    if access_token and credentials:
        raise StepFailed("git_clone takes 'access_token' or 'credentials', not both")
    if commit_sha is not None and not _SHA.fullmatch(commit_sha):
        raise StepFailed(
            f"'{commit_sha}' is not a commit",
            why="a commit is 4 to 64 hexadecimal digits",
            fix="use 'branch' for names",
        )
    for value in (branch, name, *(directories or ())):
        # git would read it as an option.
        if value is not None and value.startswith("-"):
            raise StepFailed(f"'{value}' cannot begin with '-'")


def _directory_name(url: str, branch: str | None) -> str:
    name = url.rstrip("/").replace("\\", "/").rsplit("/", 1)[-1].rsplit(":", 1)[-1].removesuffix(".git")
    if not name:
        raise StepFailed(f"'{url}' is not the URL of a repository")
    return f"{name}-{branch.replace('/', '-')}" if branch else name


def _without_userinfo(url: str) -> tuple[str, str]:
    """``url`` without user and password, and these as ``user:password`` if there are both or a token."""
    if url.startswith("-"):
        raise StepFailed(f"'{url}' is not the URL of a repository")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return url, ""
    userinfo, _, host = parts.netloc.rpartition("@")
    user, colon, password = (unquote(part) for part in userinfo.partition(":"))
    secret = f"{user}:{password}" if colon else _with_user(host, user)
    return urlunsplit(parts._replace(netloc=host)), secret


def _userinfo(url: str, access_token: str | None, credentials: Any) -> str:
    host = urlsplit(url).netloc
    if access_token:
        return _with_user(host, access_token)
    if credentials is None:
        return ""
    user = _field(credentials, "username")
    token = next(
        (v for name in ("access_token", "token", "password") if (v := _field(credentials, name))), ""
    )
    if not token:
        raise StepFailed(
            "The credentials hold no token", why="git_clone looks for 'access_token', 'token' or 'password'"
        )
    return f"{user}:{token}" if user else _with_user(host, token)


def _with_user(host: str, token: str) -> str:
    """``user:token`` with the user that the host wants beside a token; a token that has one keeps it."""
    if ":" in token:
        return token
    user = "oauth2" if "gitlab" in host else "x-token-auth" if "bitbucket" in host else "x-access-token"
    return f"{user}:{token}"


def _field(credentials: Any, name: str) -> str:
    value = credentials.get(name) if isinstance(credentials, Mapping) else getattr(credentials, name, None)
    reveal = getattr(value, "get_secret_value", None)
    return str(reveal() if reveal else value or "")


def _basic(secret: str) -> str:
    return base64.b64encode(secret.encode()).decode()
