"""Values of a form, checked against a schema while somebody fills it in (wire: ``/ui/schemas/validate``).

A value may stand for another: ``{"__prefect_kind": "json", "value": "[1]"}``. Owns what such a value is and
how mistakes are nested for the form. Does not own the rules of schemas, see ``json_schema``.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from eparch.core.errors import Invalid
from eparch.core.json_schema import Mistake, mistakes
from eparch.core.model import Body, Json, Value, decode

KIND = "__prefect_kind"
MAX_DEPTH = 64

Path = tuple[str | int, ...]


class FormValues(Body, frozen=True, kw_only=True):
    """``POST /ui/schemas/validate``."""

    schema: dict[str, Json]
    values: dict[str, Json]


class FormErrors(Value, frozen=True, kw_only=True):
    """What is wrong: texts, and below a property or an index what is wrong there."""

    errors: list[Json]
    valid: bool


def variables_of(value: Json, depth: int = 0) -> set[str]:
    """Names of the variables that values stand for.

    Raises:
        Invalid: it is nested too deeply.
    """
    if depth > MAX_DEPTH:
        raise Invalid(f"The values are nested more than {MAX_DEPTH} levels deep.")
    if isinstance(value, dict):
        name = value.get("variable_name")
        if value.get(KIND) == "workspace_variable":
            return {name} if isinstance(name, str) else set()
        value = list(value.values())
    if isinstance(value, list):
        return set().union(*(variables_of(one, depth + 1) for one in value))
    return set()


def check_form(body: FormValues, variables: Mapping[str, Json]) -> FormErrors:
    """Every mistake of the values; what is only known later, such as a template, is not looked at.

    Raises:
        Invalid: the schema is none.
    """
    form = _Form(variables)
    values = form.plain(body.values, ())
    later = {*form.later, *form.wrong}
    nested: list[Json] = []
    for path, message in form.wrong.items():
        _add(nested, path, message)
    for found in mistakes(body.schema, values):
        path = _place(found)
        unknown = any(path[: len(skipped)] == skipped for skipped in later)
        if not unknown and not _is_left_out(body.schema, values, found):
            _add(nested, path, found.message)
    return FormErrors(errors=nested, valid=not nested)


class _Form:
    """Puts in what values stand for, and keeps the places of those that cannot be checked."""

    def __init__(self, variables: Mapping[str, Json]) -> None:
        self._variables = variables
        self.later: set[Path] = set()
        self.wrong: dict[Path, str] = {}

    def plain(self, value: Json, path: Path) -> Json:
        if isinstance(value, list):
            return [self.plain(one, (*path, at)) for at, one in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if value.keys() == {"$ref"}:
            self.later.add(path)  # a block, which is read when the value is used
        if KIND not in value:
            return {name: self.plain(one, (*path, name)) for name, one in value.items()}
        return self._meant(value, path)

    def _meant(self, value: dict[str, Json], path: Path) -> Json:
        kind, given = value[KIND], value.get("value")
        if kind in (None, "none"):
            return self.plain(given, path)
        if kind == "json":
            try:
                return decode(given if isinstance(given, str) else "")
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                self.wrong[path] = "Invalid JSON"
        elif kind == "jinja":
            self.later.add(path)
        elif kind == "workspace_variable":
            name = value.get("variable_name")
            if isinstance(name, str) and name in self._variables:
                return self._variables[name]
            self.wrong[path] = f"Variable '{name}' not found."
        else:
            self.wrong[path] = f"Unknown kind of value: {str(kind)[:100]!r}"
        return None


def _is_left_out(schema: dict[str, Json], values: dict[str, Json], found: Mistake) -> bool:
    """Whether the mistake is the null of a field that may be left out: so a form sends an empty field."""
    if found.keyword != "type" or len(found.path) != 1 or values.get(str(found.path[0])) is not None:
        return False
    about = (schema.get("properties") or {}).get(found.path[0])
    return found.path[0] not in (schema.get("required") or ()) and "default" not in (about or {})


def _place(found: Mistake) -> Path:
    """Where the form shows it: what is missing is shown at its own field."""
    if found.keyword != "required":
        return found.path
    missing = found.message.partition("' is a required")[0].removeprefix("'")
    return (*found.path, missing)


def _add(errors: list[Json], path: Path, message: str) -> None:
    for step in path:
        key = "index" if isinstance(step, int) else "property"
        entry = next((e for e in errors if isinstance(e, dict) and e.get(key) == step), None)
        if entry is None:
            entry = {key: step, "errors": []}
            errors.append(entry)
        errors = entry["errors"]
    errors.append(message)
