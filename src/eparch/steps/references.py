"""What ``{{ prefect.blocks... }}`` and ``{{ prefect.variables... }}`` stand for (rows B11, D19, P10).

Owns reading blocks and variables, each once, what is said of one that is not there, and which texts have to
be kept out of logs because of what was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any, Protocol, TypeVar
from uuid import UUID

from eparch.core import calls
from eparch.core.blocks import BlockDocument, masked, referred, secret_fields, value_at
from eparch.core.calls import Call
from eparch.core.errors import Invalid, NotFound, did_you_mean
from eparch.core.redaction import redact, secret_texts
from eparch.core.templates import split

T = TypeVar("T")

HINTED = 200
"""Names that are looked at for the nearest one."""

_ALL = ("*",)


class Sender(Protocol):
    """What is needed of a client."""

    def send(self, call: Call[T]) -> T:
        """Send a call and return its answer."""


class ServerReferences:
    """The blocks and variables of a server, each read once (``runner.References``)."""

    def __init__(self, client: Sender) -> None:
        """``client`` talks to the server."""
        self._client = client
        self._variables: dict[str, Any] = {}
        self._named: dict[tuple[str, str], BlockDocument] = {}
        self._numbered: dict[UUID, BlockDocument] = {}
        self._secrets: frozenset[str] = frozenset()
        self._lock = Lock()

    def block(self, name: str) -> Any:
        """The value of ``<type>.<name>[.path]``; a block with nothing but a value stands for that value.

        Raises:
            NotFound: there is no such block, or it has no such field; the nearest name is suggested.
            Invalid: it does not name a block.
            EparchError: the server cannot be asked.
        """
        document, keys = self._find(name)
        try:
            return value_at(document.data, keys)
        except NotFound as error:
            about = f"The block '{_called(document)}' has no '{'.'.join(keys)}'."
            raise NotFound(about, fix=error.fix) from None

    def is_secret(self, name: str) -> bool:
        """Whether what ``block`` gives for ``name`` is, or holds, a secret. Raises as ``block``."""
        document, keys = self._find(name)
        shown = masked(document.data, _secrets_of(document))
        try:
            return bool(value_at(shown, keys) != value_at(document.data, keys))
        except NotFound:
            return True

    def document(self, reference: Mapping[str, Any]) -> dict[str, Any]:
        """The data of the block that ``{"$ref": reference}`` stands for (row P10).

        Raises:
            NotFound: there is no such block.
            BadRequest: the reference has neither ``block_document_id`` nor ``block_document_slug``.
            EparchError: the server cannot be asked.
        """
        slug = reference.get("block_document_slug")
        if isinstance(slug, str) and reference.get("block_document_id") is None:
            type_, _, name = slug.partition("/")
            return self.read(type_, name).data
        id_ = referred({"$ref": reference})
        assert id_ is not None
        if id_ not in self._numbered:
            try:
                found = self._client.send(calls.read_block_document(id=id_, include_secrets="true"))
            except NotFound as error:
                raise NotFound(f"There is no block with the id {id_}.", why="it was deleted") from error
            self._numbered[id_] = self._kept(found)
        return self._numbered[id_].data

    def read(self, type_: str, name: str) -> BlockDocument:
        """The block of that type and name, with its secrets.

        Raises:
            NotFound: there is none; the nearest name is suggested.
            Invalid: a name is missing.
            EparchError: the server cannot be asked.
        """
        if not type_ or not name:
            raise Invalid(
                f"'{type_ or name}' does not name a block",
                why="a block has a type and a name",
                fix="write both: '{{ prefect.blocks.<type>.<name> }}', as in prefect.blocks.secret.api-key",
            )
        if (type_, name) not in self._named:
            call = calls.read_block_document_by_name(
                slug=type_, block_document_name=name, include_secrets="true"
            )
            try:
                found = self._client.send(call)
            except NotFound as error:
                fix = nearest_block(self._client, type_, name)
                raise NotFound(f"There is no block '{type_}/{name}'.", fix=fix) from error
            self._named[type_, name] = self._kept(found)
        return self._named[type_, name]

    def variable(self, name: str) -> Any:
        """The value of the variable.

        Raises:
            NotFound: there is none; the nearest name is suggested.
            EparchError: the server cannot be asked.
        """
        if name not in self._variables:
            self._variables[name] = self._read_variable(name)
        return self._variables[name]

    def hide(self, text: str) -> str:
        """``text`` without the secrets of every block that was read so far."""
        return redact(text, self._secrets)

    def _find(self, name: str) -> tuple[BlockDocument, list[str]]:
        type_, _, rest = name.partition(".")
        keys = split(rest)
        return self.read(type_, keys[0]), keys[1:]

    def _kept(self, found: BlockDocument) -> BlockDocument:
        with self._lock:
            self._secrets |= secret_texts(found.data, _secrets_of(found))
        return found

    def _read_variable(self, name: str) -> Any:
        try:
            return self._client.send(calls.read_variable_by_name(name=name)).value
        except NotFound as error:
            known = self._client.send(calls.read_variables(body={"limit": HINTED}))
            hint = did_you_mean(name, [one.name for one in known])
            raise NotFound(
                f"There is no variable '{name}'.", fix=hint or f"Make it: eparch variable set {name} VALUE"
            ) from error


def nearest_block(client: Sender, type_: str, name: str) -> str:
    """What to do about a block that is not there: a hint at the nearest one, else how to make it."""
    body = {"block_documents": {"is_anonymous": {"eq_": False}}, "limit": HINTED}
    known = [_called(one) for one in client.send(calls.read_block_documents(body=body))]
    hint = did_you_mean(f"{type_}/{name}", known)
    return hint or f"Make it: eparch block create {type_} --name {name}"


def _secrets_of(document: BlockDocument) -> tuple[str, ...]:
    """The secret fields of a document; all of it where nobody says which."""
    return secret_fields(document.block_schema.fields) if document.block_schema else _ALL


def _called(document: BlockDocument) -> str:
    return f"{document.block_type.slug if document.block_type else '?'}/{document.name}"
