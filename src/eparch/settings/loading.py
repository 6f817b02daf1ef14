"""Where settings come from: overrides, then the environment, then the profile, then the defaults.

Owns reading and parsing. A value that cannot be parsed is refused by name, never replaced by a default.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

from eparch.core.errors import NotFound, SettingInvalid, did_you_mean
from eparch.settings import profiles
from eparch.settings.table import BY_NAME, BY_VARIABLE, TABLE, Setting, Settings, expected_of

PREFIX = "EPARCH_"

NOT_SETTINGS = frozenset({"EPARCH_FLOW_RUN_ID", "EPARCH_CLAIM_TOKEN", "EPARCH_JOB"})
"""Variables of ours that a worker hands to a run's process; they configure nothing."""

_TRUE = frozenset({"true", "1", "yes", "on", "t", "y"})
_FALSE = frozenset({"false", "0", "no", "off", "f", "n"})


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings, where each came from, and what was not understood."""

    settings: Settings
    sources: Mapping[str, str]
    """Name of a setting -> ``override``, ``environment NAME``, ``profile NAME`` or ``default``."""
    warnings: tuple[str, ...] = ()


def load(
    environ: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    *,
    profile: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings of this process: call it at entry points only and hand the value down.

    ``cwd`` makes relative paths absolute. ``overrides`` are by name of the setting; None is not given.

    Raises:
        SettingInvalid: a value cannot be used; the message names the variable and what was expected.
        SourceError: the profile file is broken.
    """
    return resolve(environ, cwd, profile=profile, overrides=overrides).settings


def resolve(
    environ: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    *,
    profile: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Resolved:
    """As ``load``, with the source of each value and warnings about variables that nobody reads."""
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    if profile is not None:
        given["profile"] = profile
    found = _Finder(environ, Path(cwd) if cwd is not None else Path.cwd(), given)
    home = found.value("home") or Path.home() / ".eparch"
    path = found.value("profiles_path") or home / "profiles.toml"
    file = profiles.read(path)
    name = found.value("profile") or file.active
    table = _table_of(file, name, found.sources.get("profile"))
    found.profile, found.table = name or profiles.DEFAULT_PROFILE, table
    computed = {"home": home, "profiles_path": path, "database_url": f"sqlite:///{home / 'eparch.db'}"}
    values: dict[str, Any] = {"home": home, "profiles_path": path, "profile": found.profile}
    for row in TABLE:
        if row.name not in values:
            value = found.value(row.name)
            values[row.name] = computed.get(row.name, row.default) if value is None else value
    sources = {row.name: found.sources.get(row.name, "default") for row in TABLE}
    if sources["profile"] == "default" and file.active:
        sources["profile"] = str(path)
    return Resolved(
        Settings(**values), sources, (*_unknown(environ), *_unknown(table, f" in profile {name!r}"))
    )


def _table_of(file: profiles.Profiles, name: str | None, source: str | None) -> Mapping[str, Any]:
    """The profile's variables. One that was asked for must be there; the default one need not."""
    if name is None or (name == profiles.DEFAULT_PROFILE and name not in file.tables):
        return {}
    try:
        return file.named(name)
    except NotFound as error:
        where = source or "the profile file's `active`"
        raise SettingInvalid(
            f"{error.message} It was asked for by {where}.", why=error.why, fix=error.fix
        ) from error


class _Finder:
    """Looks a setting up in each source in turn and remembers where it was."""

    def __init__(self, environ: Mapping[str, str], cwd: Path, given: Mapping[str, Any]) -> None:
        for name in given:
            if name not in BY_NAME:
                raise SettingInvalid(f"There is no setting {name!r}.", fix=did_you_mean(name, BY_NAME))
        self.environ, self.cwd, self.given = environ, cwd, given
        self.table: Mapping[str, Any] = {}
        self.profile = ""
        self.sources: dict[str, str] = {}

    def value(self, name: str) -> Any:
        """The parsed value, or None when no source has one."""
        row = BY_NAME[name]
        if name in self.given:
            return self._take(row, self.given[name], "override", row.name)
        for variable in row.names:
            if self.environ.get(variable, "") != "":
                return self._take(row, self.environ[variable], f"environment {variable}", variable)
        for variable in row.names:
            if variable in self.table and self.table[variable] != "":
                source = f"profile {self.profile}"
                return self._take(row, self.table[variable], source, f"{variable} in {source}")
        return None

    def _take(self, row: Setting, raw: Any, source: str, named: str) -> Any:
        value = parse(row, raw, named=named)
        self.sources[row.name] = source
        if isinstance(value, Path):
            return self.cwd / value.expanduser()
        return value


def parse(row: Setting, raw: Any, *, named: str = "") -> Any:
    """``raw`` (a text, or what TOML holds) as a value of the setting.

    Raises:
        SettingInvalid: it cannot be; the message names ``named`` and what was expected.
    """
    try:
        value = _parse(row.kind, raw)
        if row.name in ("api_url", "ui_url"):
            value = _http_url(value)
        least, most = row.about.least, row.about.most
        if (least is not None and value < least) or (most is not None and value > most):
            raise ValueError
    except (ValueError, TypeError, OverflowError) as error:
        shown = "the secret given" if row.about.secret else repr(raw)
        raise SettingInvalid(
            f"{named or row.variable} cannot be {shown}: expected {expected_of(row)}.",
            fix="Correct it, or unset it to use the default.",
        ) from error
    return value


def _parse(kind: Any, raw: Any) -> Any:
    text = raw.strip() if isinstance(raw, str) else raw
    if kind is bool:
        return _bool(text)
    if kind in (int, float):
        return _number(kind, text)
    if get_origin(kind) is Literal:
        return _choice(get_args(kind), text)
    if get_origin(kind) is dict:
        table = json.loads(text) if isinstance(text, str) else text
        if not isinstance(table, dict):
            raise ValueError
        return {str(key): str(value) for key, value in table.items()}
    if kind is Path:
        return Path(text)
    if not isinstance(text, str) or not text.isprintable():
        raise ValueError
    return text


def _bool(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    word = str(raw).lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError


def _number(kind: Any, raw: Any) -> Any:
    if isinstance(raw, bool):
        raise ValueError
    value = kind(raw)
    if value != value or value in (float("inf"), float("-inf")):
        raise ValueError
    if kind is int and isinstance(raw, float) and raw != value:
        raise ValueError
    return value


def _choice(choices: tuple[str, ...], raw: Any) -> str:
    """One of ``choices`` whatever the case; for colours, Prefect's true and false are auto and never."""
    word = str(raw).lower()
    if "never" in choices and word in _TRUE | _FALSE:
        word = "auto" if word in _TRUE else "never"
    found = [choice for choice in choices if choice.lower() == word]
    if not found:
        raise ValueError
    return found[0]


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError
    _ = parts.port  # raises ValueError when it is no number
    return url.rstrip("/")


def _unknown(names: Mapping[str, Any], where: str = "") -> list[str]:
    """A warning for each variable of ours that no setting has; Prefect's others are ignored."""
    ours = [name for name in BY_VARIABLE if name.startswith(PREFIX)]
    return [
        f"{name}{where} is not a setting. {did_you_mean(name, ours)}".strip()
        for name in names
        if name.startswith(PREFIX) and name not in BY_VARIABLE and name not in NOT_SETTINGS
    ]
