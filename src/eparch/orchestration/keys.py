"""Where the keys come from that seal secrets: a setting, or a file that only its owner can read (ADR 7).

Owns reading, making and changing the key file. What is done with a key is in ``sealing``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from eparch.core.errors import SettingInvalid, Unavailable
from eparch.orchestration.sealing import KEY_BYTES, Keyring, key_name

logger = logging.getLogger("eparch.server")

SETTING = "EPARCH_SERVER_ENCRYPTION_KEYS"

_HEADER = "# Keys that open the secrets of this server's blocks; the first one seals. Tell nobody.\n"


class KeysUnusable(Unavailable):
    """The keys of the server cannot be used."""


def open_keyring(given: str | None, database_url: str, home: Path) -> Keyring:
    """The keyring of a server: ``given`` (the setting), else the file that belongs to its database.

    Raises:
        SettingInvalid: ``given`` is no list of keys.
    """
    if given:
        keys = parse_keys(given, SETTING)
        return Keyring(lambda make: keys, SETTING)
    path = key_path(database_url, home)
    if path is None:
        passing = [os.urandom(KEY_BYTES)]
        return Keyring(lambda make: passing, "the memory of this server, like its database")
    return Keyring(KeyFile(path).keys, str(path))


def key_path(database_url: str, home: Path) -> Path | None:
    """The key file: beside the file of a SQLite database, in ``home`` for PostgreSQL, None in memory."""
    import sqlalchemy as sa

    url = sa.make_url(database_url)
    if url.get_backend_name() != "sqlite":
        return home / "encryption.key"
    name = url.database
    if not name or name == ":memory:" or "mode=memory" in name:
        return None
    file = Path(name).expanduser()
    return file.with_name(file.name + ".key")


def parse_keys(text: str, place: str) -> list[bytes]:
    """The keys in ``text``, separated by commas or lines: 32 bytes each, as base64 or as 64 hex digits.

    Raises:
        SettingInvalid: one of them is something else; its value is not told.
    """
    keys = []
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for number, word in enumerate(word for line in lines for word in line.split(",") if word.strip()):
        key = _parse_key(word.strip())
        if key is None:
            raise SettingInvalid(
                f"Key {number + 1} of {place} is no key.",
                why="A key is 32 random bytes, written as base64 (44 characters) or 64 hex digits.",
                fix="Make one: openssl rand -base64 32",
            )
        keys.append(key)
    if not keys:
        raise SettingInvalid(f"There is no key in {place}.", fix="Write one key, or several with commas.")
    return list(dict.fromkeys(keys))


def _parse_key(word: str) -> bytes | None:
    with contextlib.suppress(ValueError, binascii.Error):
        if len(word) == 2 * KEY_BYTES:
            return bytes.fromhex(word)
        key = base64.b64decode(word.replace("-", "+").replace("_", "/"), validate=True)
        return key if len(key) == KEY_BYTES else None
    return None


class KeyFile:
    """A file of keys: made when something is sealed for the first time, read again when it changed."""

    def __init__(self, path: Path) -> None:
        """Nothing is read before a key is asked for."""
        self.path = path
        self._seen: tuple[int, ...] | None = None
        self._keys: list[bytes] = []

    def keys(self, make: bool) -> Sequence[bytes]:
        """Its keys, in their order; when there is no file, one is made if ``make``.

        Raises:
            KeysUnusable: it cannot be read or made, or there is something else in it.
        """
        with _told(self.path):
            try:
                found = self.path.stat()
            except FileNotFoundError:
                if not make:
                    return []
                self._make()
                found = self.path.stat()
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen != self._seen:
                if found.st_mode & 0o077:
                    logger.warning("%s can be read by others: chmod 600 it.", self.path)
                text = self.path.read_text(encoding="ascii", errors="replace")
                self._keys = parse_keys(text, str(self.path))
                self._seen = seen
        return self._keys

    def add(self) -> str:
        """Put a new key before the others; its name.

        Raises:
            KeysUnusable: the file cannot be written.
        """
        key = os.urandom(KEY_BYTES)
        known = self.keys(False)
        with _told(self.path):
            self._write([key, *known], os.replace)
        return key_name(key)

    def keep(self, names: Sequence[str]) -> list[str]:
        """Forget every key but the first and those called ``names``; what is forgotten.

        Raises:
            KeysUnusable: the file cannot be written.
        """
        known = self.keys(False)
        kept = [key for at, key in enumerate(known) if at == 0 or key_name(key) in names]
        if len(kept) < len(known):
            with _told(self.path):
                self._write(kept, os.replace)
        return [key_name(key) for key in known if key not in kept]

    def _make(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A link does not replace: of two servers that start at once, both have the key of the first.
        with contextlib.suppress(FileExistsError):
            self._write([os.urandom(KEY_BYTES)], os.link)

    def _write(self, keys: Sequence[bytes], place: Callable[[str, Path], None]) -> None:
        text = _HEADER + "".join(f"{base64.b64encode(key).decode()}\n" for key in keys)
        # mkstemp makes files that only their owner can read.
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(OSError):  # root changes the key of a server that is not root
                owner = self.path.stat()
                os.chown(name, owner.st_uid, owner.st_gid)
            place(name, self.path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Say of a file that cannot be used which one it is."""
    try:
        yield
    except SettingInvalid as error:
        raise KeysUnusable(error.message, why=error.why, fix="Restore it from a backup.") from error
    except OSError as error:
        raise KeysUnusable(
            f"The key file {path} cannot be used.",
            why=str(error.strerror or error),
            fix=f"Let the server read and write it, or set {SETTING}.",
        ) from error
