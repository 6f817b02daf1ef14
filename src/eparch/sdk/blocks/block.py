"""``Block``: typed configuration that is kept on the server, with secrets that are not shown (row B11).

Owns what a class of blocks is: its fields, its type, its schema, and how its values become a document and
back. What is sent to the server is in ``documents``, what a field is in ``fields``.
"""

from __future__ import annotations

import inspect
import re
import sys
import unicodedata
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar
from uuid import UUID

from eparch.core.blocks import UNVERSIONED, document_reference, schema_checksum
from eparch.core.errors import NotFound, Usage
from eparch.core.secrets import is_secret_type, reveal
from eparch.sdk.blocks import documents
from eparch.sdk.blocks.fields import (
    BlockField,
    block_types,
    fields_of,
    fill,
    secret_paths,
    without_additional,
    write_properties,
)

Self = TypeVar("Self", bound="Block")

_KNOWN: dict[str, type[Block]] = {}
"""Slug of a type -> the class of its blocks: the last one that was defined."""

_KEPT_BESIDES = ("block_type_slug", "_block_document_id", "_block_document_name", "_is_anonymous")
"""What documents hold besides fields: Prefect writes it into blocks within blocks."""

_SECTION = re.compile(
    r"(Args|Arguments|Attributes|Examples?|Notes?|Parameters|Raises|Returns|See Also|Usage):?\s*$"
)


class Block:
    """Subclass it and annotate its fields: ``class Login(Block): user: str; password: SecretStr``.

    ``_block_type_name``, ``_block_type_slug``, ``_description``, ``_logo_url``, ``_documentation_url``,
    ``_code_example``, ``_block_schema_capabilities`` and ``_block_schema_version`` say more of the type.
    """

    __block_fields__: ClassVar[dict[str, BlockField]] = {}

    _block_type_name: ClassVar[str | None] = None
    _block_type_slug: ClassVar[str | None] = None
    _logo_url: ClassVar[Any] = None
    _documentation_url: ClassVar[Any] = None
    _description: ClassVar[str | None] = None
    _code_example: ClassVar[str | None] = None
    _block_schema_capabilities: ClassVar[list[str] | None] = None
    _block_schema_version: ClassVar[str | None] = None
    _is_system: ClassVar[bool] = False
    """Every server has the type and its schema: none is registered."""

    _block_document_id: UUID | None = None
    _block_document_name: str | None = None
    _is_anonymous: bool | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # The class that a decorator or a copy makes anew has its own fields as well.
        cls.__block_fields__ = {}
        _KNOWN[cls.get_block_type_slug()] = cls

    def __init__(self, **given: Any) -> None:
        """Raises ``ParametersInvalid`` where a field is unknown or missing, or a value does not fit."""
        self.__dict__.update(fill(self.block_fields(), given, type(self).__name__))
        self.block_initialization()

    def block_initialization(self) -> None:
        """Called when the fields are filled; subclasses may check them or open something."""

    # The class

    @classmethod
    def block_fields(cls) -> dict[str, BlockField]:
        """The fields by name, in their order; read when first asked for, as annotations may look ahead."""
        if not cls.__block_fields__:
            cls.__block_fields__ = fields_of(cls)
        return cls.__block_fields__

    @classmethod
    def get_block_type_name(cls) -> str:
        """What the type is called."""
        return cls._block_type_name or cls.__name__

    @classmethod
    def get_block_type_slug(cls) -> str:
        """The name of the type in references: small letters, digits and dashes."""
        return slugged(cls._block_type_slug or cls.get_block_type_name())

    @classmethod
    def get_block_capabilities(cls) -> frozenset[str]:
        """What blocks of the class can do, that of its bases too."""
        return frozenset(
            one for base in cls.__mro__ for one in getattr(base, "_block_schema_capabilities", None) or ()
        )

    @classmethod
    def get_block_schema_version(cls) -> str:
        """The version of the class: its own, or that of its package."""
        package = sys.modules.get(cls.__module__.partition(".")[0])
        return cls._block_schema_version or str(getattr(package, "__version__", UNVERSIONED))

    @classmethod
    def get_description(cls) -> str | None:
        """What the type is for: ``_description``, or what the docstring begins with."""
        if cls._description is not None:
            return cls._description
        lines = inspect.cleandoc(cls.__doc__ or "").splitlines()
        end = next((at for at, line in enumerate(lines) if _SECTION.match(line)), len(lines))
        return "\n".join(lines[:end]).strip() or None

    @classmethod
    def model_json_schema(cls, **_: Any) -> dict[str, Any]:
        """The fields as a JSON Schema with Prefect's additions; options of pydantic's mean nothing here.

        Raises:
            Usage: the class refers to itself.
        """
        if cls.__dict__.get("_is_written"):
            raise Usage(
                f"The block {cls.__name__} refers to itself.", fix="Refer to another block by its name."
            )
        cls._is_written = True
        try:
            return cls._write_schema()
        finally:
            cls._is_written = False

    _is_written: ClassVar[bool] = False

    @classmethod
    def _write_schema(cls) -> dict[str, Any]:
        fields, definitions = cls.block_fields(), dict[str, Any]()
        properties = write_properties(fields, definitions)
        references: dict[str, Any] = {}
        for name, field in fields.items():
            known = [
                {"block_type_slug": one.get_block_type_slug(), "block_schema_checksum": one.get_checksum()}
                for one in nested_types(field)
            ]
            if known:
                references[name] = known[0] if len(known) == 1 else known
        description = cls.get_description()
        required = [name for name, field in fields.items() if field.required]
        whole = {
            "title": cls.__name__,
            "type": "object",
            **({"description": description} if description else {}),
            "properties": properties,
            **({"required": required} if required else {}),
            "block_type_slug": cls.get_block_type_slug(),
            "secret_fields": [path for field in fields.values() for path in secret_paths(field)],
            "block_schema_references": references,
            **({"definitions": definitions} if definitions else {}),
        }
        written: dict[str, Any] = without_additional(whole)
        return written

    @classmethod
    def get_checksum(cls) -> str:
        """The checksum of the schema, by which servers know it."""
        return schema_checksum(cls.model_json_schema())

    # Values

    @classmethod
    def from_value(cls: type[Self], value: Any) -> Self:
        """A block of this class made of ``value``: one already, its fields, or a reference to a saved one.

        Raises:
            ValueError: it is none of these.
            ParametersInvalid: the fields do not fit.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise ValueError(f"Expected a block `{cls.__name__}`, got `{type(value).__name__}`")
        if isinstance(reference := value.get("$ref"), Mapping):
            return cls.from_document(documents.read_referred(reference))
        slug = value.get("block_type_slug")
        kind = cls if slug in (None, cls.get_block_type_slug()) else _KNOWN.get(str(slug))
        if kind is None or not issubclass(kind, cls):
            raise ValueError(f"Expected a block `{cls.__name__}`, got one of the type '{slug}'")
        return kind(**{key: item for key, item in value.items() if key not in _KEPT_BESIDES})

    @classmethod
    def from_document(cls: type[Self], document: documents.Read, *, validate: bool = True) -> Self:
        """The block that a document holds, with the blocks within it.

        Fields that the class does not have are kept as they are: another version of it saved them. Without
        ``validate`` a field that the document does not have is None.

        Raises:
            NotFound: no class for such blocks is known here.
            ParametersInvalid: it does not fit the class.
            Usage: it is of another class.
        """
        kind = find_class(document.slug)
        if cls is not Block and cls.get_block_type_slug() == document.slug:
            kind = cls
        if not issubclass(kind, cls):
            raise Usage(f"The block '{document.slug}/{document.name}' is no {cls.__name__}.")
        values = {key: value for key, value in document.data.items() if key not in _KEPT_BESIDES}
        values |= {name: Block.from_document(one) for name, one in document.inner().items()}
        fields = kind.block_fields()
        if not validate:
            values = {name: None for name, field in fields.items() if field.required} | values
        known = {name: value for name, value in values.items() if name in fields}
        block = kind.__new__(kind)
        if validate:
            block.__dict__.update(fill(fields, known, kind.__name__))
        else:
            defaults = {name: field.default() for name, field in fields.items() if not field.required}
            block.__dict__.update(defaults | known)
        # A name that the class itself has stays what the class says.
        others = {name: one for name, one in values.items() if name not in fields and not hasattr(kind, name)}
        block.__dict__.update(others)
        block._saved_as(document.id, document.name, document.is_anonymous)
        if validate:
            block.block_initialization()
        return block

    def model_dump(self) -> dict[str, Any]:
        """The fields by name; secrets stay hidden, blocks within stay blocks."""
        return {name: getattr(self, name) for name in self.block_fields()}

    def to_data(self) -> dict[str, Any]:
        """The fields as a document holds them: secrets as they are, saved blocks as references.

        Raises:
            Usage: a value cannot be written as JSON.
        """
        data = {}
        for name in self.block_fields():
            value = getattr(self, name)
            if isinstance(value, Block) and value._block_document_id is not None:
                data[name] = document_reference(value._block_document_id)
            else:
                data[name] = _stored(value, f"{type(self).__name__}.{name}")
        return data

    def _saved_as(self, id_: UUID | None, name: str | None, is_anonymous: bool) -> None:
        self._block_document_id, self._block_document_name = id_, name
        self._is_anonymous = is_anonymous

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name, None)!r}" for name in self.block_fields())
        return f"{type(self).__name__}({shown})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.model_dump() == other.model_dump()

    __hash__ = object.__hash__

    # The server

    @classmethod
    def register_type_and_schema(cls) -> Any:
        """Let the server know the type and its schema; called or awaited.

        Raises:
            Usage: it is ``Block`` itself.
            EparchError: the server refused.
        """
        return documents.register(cls)

    @classmethod
    async def aregister_type_and_schema(cls) -> None:
        """The same, awaited."""
        await documents.register.aio(cls)

    @classmethod
    def load(cls: type[Self], name: str, validate: bool = True, *, _sync: bool | None = None) -> Any:
        """The block of that name; for ``Block`` itself it is ``<type>/<name>``. Called or awaited.

        Raises:
            NoSuchBlock: there is none; the nearest name is suggested.
            ParametersInvalid: it does not fit the class, and ``validate`` is true.
        """
        return documents.load(cls, name, validate, _sync=_sync)  # type: ignore[call-arg]

    @classmethod
    async def aload(cls: type[Self], name: str, validate: bool = True) -> Self:
        """The same, awaited."""
        loaded: Self = await documents.load.aio(cls, name, validate)
        return loaded

    @classmethod
    def load_from_ref(cls: type[Self], ref: Any, validate: bool = True) -> Any:
        """The block with that id, or of ``{"block_document_id": ...}`` or ``{"block_document_slug": ...}``.

        Raises:
            NoSuchBlock: there is none.
        """
        return documents.load_referred(cls, ref, validate)

    @classmethod
    async def aload_from_ref(cls: type[Self], ref: Any, validate: bool = True) -> Self:
        """The same, awaited."""
        loaded: Self = await documents.load_referred.aio(cls, ref, validate)
        return loaded

    def save(self, name: str | None = None, overwrite: bool = False, *, _sync: bool | None = None) -> Any:
        """Keep the block under ``name``, or the one that it was loaded by; gives its id. Called or awaited.

        Raises:
            BlockExists: there is one of this name, and ``overwrite`` is false.
            Usage: there is no name.
        """
        return documents.save(self, name, overwrite, _sync=_sync)  # type: ignore[call-arg]

    async def asave(self, name: str | None = None, overwrite: bool = False) -> UUID:
        """The same, awaited."""
        saved: UUID = await documents.save.aio(self, name, overwrite)
        return saved

    def save_anonymously(self) -> Any:
        """Keep the block without a name; gives its id. Called or awaited."""
        return documents.save(self, None, False, True)

    @classmethod
    def delete(cls, name: str, *, _sync: bool | None = None) -> Any:
        """Delete the block of that name; for ``Block`` itself it is ``<type>/<name>``. Called or awaited.

        Raises:
            NoSuchBlock: there is none.
        """
        return documents.delete(cls, name, _sync=_sync)  # type: ignore[call-arg]

    @classmethod
    async def adelete(cls, name: str) -> None:
        """The same, awaited."""
        await documents.delete.aio(cls, name)


def find_class(slug: str) -> type[Block]:
    """The class of blocks of that type.

    Raises:
        NotFound: none was defined in this process.
    """
    if slug not in _KNOWN:
        from eparch.sdk.blocks import load_shipped

        load_shipped()
    if slug not in _KNOWN:
        raise NotFound(
            f"No class for blocks of the type '{slug}' is known here.",
            fix="Import the module that defines it.",
        )
    return _KNOWN[slug]


def nested_types(field: BlockField) -> list[type[Block]]:
    """The classes of blocks that a field may hold, each once."""
    return [one for one in dict.fromkeys(block_types(field.annotation)) if issubclass(one, Block)]


def slugged(name: str) -> str:
    """``name`` in small letters, digits and dashes."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _stored(value: Any, place: str) -> Any:
    """``value`` as JSON holds it."""
    if isinstance(value, Block):
        inner = {name: _stored(getattr(value, name), place) for name in value.block_fields()}
        return {**inner, "block_type_slug": value.get_block_type_slug()}
    if is_secret_type(type(value)):
        return _stored(reveal(value), place)
    if isinstance(value, Mapping):
        return {str(key): _stored(item, place) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_stored(item, place) for item in value]
    from eparch.core.signatures import is_plain, plain

    written = plain(value)
    if not is_plain(written):
        raise Usage(f"'{place}' cannot be kept: {type(value).__name__} cannot be written as JSON.")
    return written
