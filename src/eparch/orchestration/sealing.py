"""Sealing of what is secret at rest: XChaCha20-Poly1305, bound to the document it belongs to (ADR 7).

Owns the format of what is stored and which key opens it. Where keys come from is in ``keys``; what is sealed
is in ``blocks``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from eparch.core.errors import Conflict
from eparch.core.model import decode, encode

KEY_BYTES = 32

_FORMAT = b"\x01"
_NONCE = 24
_MAC = 16
_PURPOSE = b"eparch.block_document"


def key_name(key: bytes) -> str:
    """What ``key`` is called: 16 hex digits that tell nothing of it."""
    return hashlib.blake2b(key, digest_size=8, person=b"eparch.key").hexdigest()


class Unopened(Conflict):
    """It cannot be opened with the keys of this server."""


class Keyring:
    """The keys of a server: the first one seals, all of them open."""

    __slots__ = ("_keys", "place")

    def __init__(self, keys: Callable[[bool], Sequence[bytes]], place: str) -> None:
        """``keys(make)`` gives the keys as they are now, made if need be when ``make``; ``place`` names where
        they are kept, for people.
        """
        self._keys = keys
        self.place = place

    def __repr__(self) -> str:
        return f"Keyring({self.place!r})"

    def names(self) -> list[str]:
        """What its keys are called, in their order."""
        return [key_name(key) for key in self._keys(False)]

    def first(self) -> str:
        """What the key that seals is called; it is made if there is none."""
        return key_name(self._keys(True)[0])

    def seal(self, owner: UUID, value: Any) -> tuple[str, bytes]:
        """The name of the key that seals, and ``value`` sealed so that only ``owner`` can have it."""
        import monocypher

        key = self._keys(True)[0]
        name, nonce = key_name(key), os.urandom(_NONCE)
        mac, text = monocypher.lock(key, nonce, encode(value), associated_data=_context(name, owner))
        return name, _FORMAT + nonce + mac + text

    def open(self, owner: UUID, name: str, sealed: bytes, what: str) -> Any:
        """What was sealed for ``owner`` with the key called ``name``; ``what`` is what people call it.

        Raises:
            Unopened: no key has this name, or what is stored was changed or belongs to something else.
        """
        import monocypher

        key = next((key for key in self._keys(False) if key_name(key) == name), None)
        if key is None:
            raise Unopened(
                f"{what} cannot be opened: this server does not have the key that sealed it.",
                why=f"The key is called {name}; this server has {', '.join(self.names()) or 'none'}.",
                fix=f"Give the server that key again ({self.place}), or delete the block and save it anew.",
            )
        nonce, mac, text = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :][:_MAC], sealed[1 + _NONCE + _MAC :]
        opened = None
        if sealed[:1] == _FORMAT and len(mac) == _MAC:
            opened = monocypher.unlock(key, nonce, mac, text, associated_data=_context(name, owner))
        if opened is None:
            raise Unopened(
                f"{what} cannot be opened: what is stored was changed, or was moved from another block.",
                fix="Restore it from a backup, or delete the block and save it anew.",
            )
        return decode(opened)


def _context(name: str, owner: UUID) -> bytes:
    return b"|".join((_PURPOSE, _FORMAT, name.encode(), owner.bytes))
