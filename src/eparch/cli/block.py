"""``eparch block``: what blocks and block types there are; making and deleting blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from eparch.cli import lookup
from eparch.cli.block_register import register
from eparch.cli.commands import Group
from eparch.cli.output import Column
from eparch.cli.session import Session
from eparch.core import calls
from eparch.core.errors import NotFound, Usage

if TYPE_CHECKING:
    from eparch.core.blocks import BlockDocument, BlockSchema, BlockType


@click.group("block", cls=Group, aliases={"types": "type"})
def block() -> None:
    """Configuration with secrets that flows and deployments share."""


@block.command("ls", example="eparch block ls -o name")
@click.option(
    "--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="How many at most."
)
@click.pass_obj
def ls(session: Session, limit: int) -> None:
    """List blocks by type and name, without their secrets."""
    columns = [
        Column("ID", lambda one: one.id),
        Column("TYPE", lambda one: one.block_type.name),
        Column("NAME", lambda one: one.name),
        Column("SLUG", _slug),
        Column("UPDATED", lambda one: one.updated),
    ]
    found = session.pages(calls.read_block_documents, {"sort": "BLOCK_TYPE_AND_NAME_ASC"}, limit)
    session.output.rows(found, columns, name=_slug, empty="There are no blocks.")


@block.command("inspect", example="eparch block inspect secret/api-key")
@click.argument("slug", required=False, metavar="[TYPE/NAME]")
@click.option("--id", "id_", type=click.UUID, help="The id of the block, in the place of its name.")
@click.option("--show-secrets", is_flag=True, help="Show secrets as they are.")
@click.pass_obj
def inspect(session: Session, slug: str | None, id_: UUID | None, show_secrets: bool) -> None:
    """Show a block; its secrets are masked unless they are asked for."""
    found = _find(session, slug, id_, secrets=show_secrets)
    shown = {
        "id": str(found.id),
        "type": found.block_type.name if found.block_type else None,
        "name": found.name,
        "created": found.created,
        "updated": found.updated,
        **found.data,
    }
    session.output.one(found, name=_slug, shown=shown)


@block.command("create", example='eparch block create secret --name api-key --data \'{"value": "..."}\'')
@click.argument("type_", metavar="TYPE")
@click.option("-n", "--name", help="The name of the block: small letters, digits and dashes.")
@click.option("-d", "--data", metavar="JSON", help="Its fields: a JSON object, @FILE, or - for stdin.")
@click.option("--overwrite", is_flag=True, help="Change the block if it is there.")
@click.pass_obj
def create(session: Session, type_: str, name: str | None, data: str | None, overwrite: bool) -> None:
    """Make a block; what is not given is asked for, secrets without showing them."""
    from eparch.core.blocks import BlockDocumentCreate, BlockDocumentUpdate
    from eparch.core.errors import Conflict

    found = _find_type(session, type_)
    schema = _newest_schema(session, found)
    if name is None:
        _need_person(session, "the name", "Add --name.")
        name = click.prompt("Name", err=True)
    if data is None:
        _need_person(session, "the fields", "Add --data.")
        fields = _ask(schema.fields)
    else:
        from eparch.cli.values import read_object

        fields = read_object(data, "--data")
    _check(schema.fields, fields, found.slug)
    body = BlockDocumentCreate(name=name, data=fields, block_type_id=found.id, block_schema_id=schema.id)
    try:
        made = session.send(calls.create_block_document(body=body))
    except Conflict as error:
        if not overwrite:
            fix = "Add --overwrite, or choose another name."
            raise Conflict(f"There is a block '{found.slug}/{name}' already.", fix=fix) from error
        made = session.send(calls.read_block_document_by_name(slug=found.slug, block_document_name=name))
        patch = BlockDocumentUpdate(data=fields, block_schema_id=schema.id)
        session.send(calls.update_block_document(id=made.id, body=patch))
    session.note(f"Saved block '{found.slug}/{name}'.")
    session.output.made(made, name=_slug)


@block.command("delete", example="eparch block delete secret/api-key -y")
@click.argument("slug", required=False, metavar="[TYPE/NAME]")
@click.option("--id", "id_", type=click.UUID, help="The id of the block, in the place of its name.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@click.pass_obj
def delete(session: Session, slug: str | None, id_: UUID | None, yes: bool, dry_run: bool) -> None:
    """Delete a block; the fields of other blocks that refer to it are empty then."""
    found = _find(session, slug, id_)
    if dry_run:
        session.note(f"Would delete block '{_slug(found)}'.")
        return
    session.confirm(f"Delete block '{_slug(found)}'?", yes=yes)
    session.send(calls.delete_block_document(id=found.id))
    session.note(f"Deleted block '{_slug(found)}'.")
    session.output.made(found, name=_slug)


@click.group("type", cls=Group)
def kind() -> None:
    """Kinds of blocks."""


block.add_command(kind)
block.add_command(register)


@kind.command("ls", example="eparch block type ls")
@click.pass_obj
def type_ls(session: Session) -> None:
    """List block types by name."""
    columns = [
        Column("SLUG", lambda one: one.slug),
        Column("NAME", lambda one: one.name),
        Column("DESCRIPTION", lambda one: one.description),
    ]
    found = session.pages(calls.read_block_types, {})
    session.output.rows(found, columns, name=lambda one: one.slug, empty="There are no block types.")


@kind.command("inspect", example="eparch block type inspect secret")
@click.argument("slug")
@click.pass_obj
def type_inspect(session: Session, slug: str) -> None:
    """Show a block type and the fields of its blocks."""
    import msgspec

    found = _find_type(session, slug)
    schemas = session.send(
        calls.read_block_schemas(body={"block_schemas": {"block_type_id": {"any_": [found.id]}}, "limit": 1})
    )
    shown: dict[str, Any] = msgspec.to_builtins(found)
    for name, about in (schemas[0].fields.get("properties") or {}).items() if schemas else ():
        shown[f"field {name}"] = about.get("description") if isinstance(about, dict) else None
    session.output.one(found, name=lambda one: one.slug, shown=shown)


@kind.command("delete", example="eparch block type delete my-type -y")
@click.argument("slug")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@click.pass_obj
def type_delete(session: Session, slug: str, yes: bool, dry_run: bool) -> None:
    """Delete a block type with all of its blocks."""
    found = _find_type(session, slug)
    count = session.send(calls.count_block_documents(body={"block_types": {"slug": {"any_": [found.slug]}}}))
    what = f"block type '{found.slug}' with {count} block{'' if count == 1 else 's'}"
    if dry_run:
        session.note(f"Would delete {what}.")
        return
    session.confirm(f"Delete {what}?", yes=yes)
    session.send(calls.delete_block_type(id=found.id))
    session.note(f"Deleted {what}.")
    session.output.made(found, name=lambda one: one.slug)


def _slug(one: BlockDocument) -> str:
    return f"{one.block_type.slug if one.block_type else '?'}/{one.name}"


def _find(session: Session, slug: str | None, id_: UUID | None, *, secrets: bool = False) -> BlockDocument:
    if (slug is None) == (id_ is None):
        raise Usage("Name one block.", fix="Write TYPE/NAME, as secret/api-key, or --id.")
    shown = "true" if secrets else "false"
    try:
        if slug is None:
            return session.send(calls.read_block_document(id=id_, include_secrets=shown))
        of_type, _, name = slug.partition("/")
        if not name:
            raise Usage(f"{slug!r} does not say which type.", fix="Write TYPE/NAME, as secret/api-key.")
        return session.send(
            calls.read_block_document_by_name(slug=of_type, block_document_name=name, include_secrets=shown)
        )
    except NotFound as error:
        known = [_slug(one) for one in session.pages(calls.read_block_documents, {}, 1000)]
        raise lookup.absent("block", slug or str(id_), known, "block ls") from error


def _find_type(session: Session, slug: str) -> BlockType:
    try:
        return session.send(calls.read_block_type_by_slug(slug=slug))
    except NotFound as error:
        known = [one.slug for one in session.pages(calls.read_block_types, {}, 1000)]
        raise lookup.absent("block type", slug, known, "block type ls") from error


def _newest_schema(session: Session, found: BlockType) -> BlockSchema:
    wanted = {"block_type_id": {"any_": [found.id]}}
    schemas = session.send(calls.read_block_schemas(body={"block_schemas": wanted, "limit": 1}))
    if not schemas:
        raise NotFound(f"The block type '{found.slug}' has no schema.", fix="Register its class.")
    return schemas[0]


def _need_person(session: Session, what: str, fix: str) -> None:
    if not session.interactive:
        raise Usage(f"Nobody is here to ask for {what} of the block.", fix=fix)


def _ask(fields: dict[str, Any]) -> dict[str, Any]:
    """Ask a person for every field of a schema; an empty answer leaves out what has a default."""
    from eparch.core.blocks import secret_fields

    required, hidden = fields.get("required") or [], secret_fields(fields)
    answers = {}
    for name, about in (fields.get("properties") or {}).items():
        about = about if isinstance(about, dict) else {}
        if about.get("description"):
            click.echo(f"{name}: {about['description']}", err=True)
        kinds = [about, *(about.get("anyOf") or [])]
        text = click.prompt(
            name,
            default=None if name in required else "",
            show_default=False,
            hide_input=name in hidden,
            err=True,
        )
        if text or name in required:
            answers[name] = _read(text, {one.get("type") for one in kinds if isinstance(one, dict)})
    return answers


def _read(text: str, types: set[Any]) -> Any:
    """An answer as JSON where the field is no text."""
    from eparch.core.model import decode

    if "string" in types:
        return text
    try:
        return decode(text)
    except ValueError:
        return text


def _check(fields: dict[str, Any], given: dict[str, Any], slug: str) -> None:
    """Refuse what lacks a field that its type requires."""
    missing = [name for name in fields.get("required") or [] if name not in given]
    if missing:
        raise Usage(
            f"The block lacks {', '.join(repr(name) for name in missing)}.",
            fix=f"See what it needs: eparch block type inspect {slug}",
        )
