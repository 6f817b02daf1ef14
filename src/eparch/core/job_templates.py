"""Base job templates: which variables a pool offers, which value each one gets, and the job that results.

Owns the rules of rows P2-P9: what is wrong with a template, the order of the layers, how they merge, and
which layer won. Does not fetch blocks or variables: references (``{"$ref": ...}``,
``{{ prefect.blocks... }}``) go through as written. Placeholders themselves are in ``templates``, where each
value of a job came from in ``job_origins``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

from msgspec import structs

from eparch.core.deployments import Deployment, Flow
from eparch.core.errors import Invalid, did_you_mean
from eparch.core.json_schema import check_schema, mistakes
from eparch.core.model import Json, Value
from eparch.core.pools import WorkPool
from eparch.core.runs import FlowRun
from eparch.core.templates import Kind, Path, Placeholder, lookup_in, placeholders, render, split

POOL = "pool"
"""The name of the layer of the pool's own defaults."""

VARIABLES = frozenset({Kind.OUTPUT})
"""Placeholders that ``render_job`` fills in. References are fetched by the worker; a filter here is a Go
template in some command, not ours.
"""


WARNING_HEADER = "x-eparch-warning"
"""Carries ``warnings_of`` a template in the answer to who saved it (row P6)."""

CONTEXT: dict[str, type[Value]] = {
    "flow": Flow,
    "flow_run": FlowRun,
    "deployment": Deployment,
    "work_pool": WorkPool,
}
"""What ``{{ ctx.* }}`` may name (row W25)."""


_RULES = ("deep", "replace")
"""How layers of a variable are merged: ``x-merge`` in its schema."""


class Severity(StrEnum):
    """Whether it can be saved."""

    ERROR = "error"
    WARNING = "warning"


class Problem(Value, frozen=True, kw_only=True):
    """What is wrong, and at which ``path`` of the value that was looked at."""

    severity: Severity = Severity.ERROR
    message: str
    path: Path = ()
    fix: str = ""
    layer: str = ""
    """Which layer gave it, where several were looked at."""

    @property
    def text(self) -> str:
        """All of it in one line: ``message (at job_configuration.command; Did you mean 'image'?)``."""
        place = "at " + ".".join(map(str, self.path)) if self.path else ""
        giver = f"given by the {self.layer}" if self.layer else ""
        more = "; ".join(part for part in (place, giver, self.fix) if part)
        return f"{self.message} ({more})" if more else self.message


class Layer(Value, frozen=True, kw_only=True):
    """Job variables as one place gives them: ``name`` is ``deployment``, ``run`` ..."""

    name: str
    values: dict[str, Json] = {}


class Resolved(Value, frozen=True, kw_only=True):
    """Job variables after all layers; ``origin`` names the layer that set, or deleted, each (dotted) key."""

    values: dict[str, Json]
    origin: dict[str, str]

    def winner(self, key: str) -> str | None:
        """The layer that decided ``key`` (dotted below a merged variable); None if none did (row P7)."""
        while key not in self.origin and "." in key:
            key = key.rpartition(".")[0]
        return self.origin.get(key)


def check_template(base_job_template: dict[str, Json]) -> list[Problem]:
    """What is wrong with a base job template (rows P2, P6); ``{}`` is a template that says nothing."""
    if not base_job_template:
        return []
    found = [
        Problem(message=f"A base job template needs '{part}', a mapping", path=(part,))
        for part in ("variables", "job_configuration")
        if not isinstance(base_job_template.get(part), dict)
    ]
    if found:
        return found
    schema: dict[str, Json] = base_job_template["variables"]
    configuration: dict[str, Json] = base_job_template["job_configuration"]
    invalid = _schema_problem(schema)
    if invalid:
        return [Problem(message=f"'variables' is not a valid JSON schema: {invalid}", path=("variables",))]
    properties = _properties(schema)
    return [
        *_placeholder_problems(configuration, properties),
        *_unused(configuration, properties),
        *_merge_problems(properties),
        *_default_problems(schema, properties),
    ]


def warnings_of(base_job_template: dict[str, Json]) -> list[str]:
    """What people should know of a template that can be saved, such as a variable without effect (row P6)."""
    return [one.text for one in check_template(base_job_template) if one.severity is Severity.WARNING]


def check_values(schema: dict[str, Json], values: dict[str, Json], *, required: bool) -> list[Problem]:
    """How job variables break the schema of their pool: types always, missing ones if ``required`` (row P9).

    A value that holds a placeholder or a reference has no type yet and is not judged. Null is "not set".
    Messages never show the value: it may be a secret. Unknown names are ``unknown_variables``.
    """
    given = {key: value for key, value in values.items() if value is not None}
    found = []
    for mistake in mistakes(schema, given, masked=True):
        path = mistake.path
        if mistake.keyword == "required" and not path and not required:
            continue
        if mistake.keyword == "additionalProperties" and not path:
            continue
        if _is_open(_at(given, path)) and mistake.keyword != "required":
            continue
        if _is_referred(given, path):
            continue
        where = ".".join(str(part) for part in path)
        message = f"'{where}': {mistake.message}" if where else mistake.message
        found.append(Problem(message=message, path=path))
    return found


def unknown_variables(schema: dict[str, Json], values: Iterable[str]) -> list[Problem]:
    """The job variables in ``values`` that the pool does not offer (row P5), or keeps for itself (row P11).

    A schema that lists no properties, or has ``additionalProperties: true``, takes any. What is ``readOnly``,
    a variable or all of them, only the template sets.
    """
    properties = _properties(schema)
    is_open = "properties" not in schema or schema.get("additionalProperties", False) is not False
    found = []
    for key in values:
        name = key if key in properties else split(key)[0]
        if _is_locked(schema) or _is_locked(properties.get(name)):
            message = f"The work pool lets nobody set the job variable '{name}'"
            found.append(Problem(message=message, path=(key,), fix="Leave it out: its template is locked"))
        elif name not in properties and not is_open:
            hint = did_you_mean(name, properties)
            message = f"The work pool has no job variable '{name}'"
            known = f"It has: {', '.join(sorted(properties)) or 'none'}"
            found.append(Problem(message=message, path=(key,), fix=hint or known))
    return found


def _is_locked(schema: Json) -> bool:
    return isinstance(schema, dict) and schema.get("readOnly") is True


def check_layers(schema: dict[str, Json], layers: Iterable[Layer], *, required: bool) -> list[Problem]:
    """What is wrong with the job variables of all ``layers`` together (rows P5, P9, P11)."""
    given = list(layers)
    unknown = unknown_variables(schema, dict.fromkeys(key for layer in given for key in layer.values))
    names = {problem.path[0] for problem in unknown}
    known = [
        Layer(name=layer.name, values={key: value for key, value in layer.values.items() if key not in names})
        for layer in given
    ]
    resolved = resolve_variables(schema, *known)
    wrong = check_values(schema, resolved.values, required=required)
    last = {key: layer.name for layer in given for key in layer.values}
    return [
        *(structs.replace(one, layer=last[str(one.path[0])]) for one in unknown),
        *(structs.replace(one, layer=resolved.winner(".".join(map(str, one.path))) or "") for one in wrong),
    ]


def resolve_variables(schema: dict[str, Json], *layers: Layer) -> Resolved:
    """Job variables from the pool's defaults and then each of ``layers``; later ones win (row P7).

    ``env`` merges key by key, any other variable is replaced, unless the schema gives it
    ``x-merge: deep`` or ``x-merge: replace``. A dotted key (``env.FOO``) sets one nested value, whatever the
    rule; in one layer the nested form wins over the dotted one. Null deletes (row P8).

    Raises:
        Invalid: a layer has a variable that the pool does not offer; all of them are named.
    """
    unknown = [(layer, problem) for layer in layers for problem in unknown_variables(schema, layer.values)]
    if unknown:
        raise Invalid(
            "; ".join(f"{problem.message} (given by the {layer.name})" for layer, problem in unknown),
            why="its base job template declares every variable that can be set",
            fix=unknown[0][1].fix,
        )
    properties = _properties(schema)
    merging = _Merge()
    for key, attributes in properties.items():
        default = attributes.get("default") if isinstance(attributes, dict) else None
        if default is not None:
            merging.put(key, default, POOL, deep=_is_deep(properties, key))
    for layer in layers:
        nested, dotted = _untangle(layer.values, properties)
        for key in dict.fromkeys([*dotted, *nested]):
            if key not in nested:
                merging.put(key, dotted[key], layer.name, deep=True)
                continue
            value = nested[key]
            if isinstance(value, dict) and key in dotted:
                value = _joined(dotted[key], value)
            merging.put(key, value, layer.name, deep=_is_deep(properties, key))
    return Resolved(values=merging.values, origin=merging.origin)


def render_job(
    base_job_template: dict[str, Json], layers: Iterable[Layer], *, unescape: bool = True
) -> tuple[dict[str, Json], Resolved]:
    """The job that a worker starts, and where each variable came from.

    ``unescape`` is false because another pass follows. A literal ``env`` mapping in ``job_configuration``
    keeps its keys and takes those of the variable ``env``.

    Raises:
        Invalid: a layer has a variable that the pool does not offer, or this is no template at all.
    """
    schema, configuration = parts_of(base_job_template)
    resolved = resolve_variables(schema, *layers)
    rendered: dict[str, Json] = render(
        configuration, lookup_in(resolved.values), kinds=VARIABLES, unescape=unescape
    )
    env = resolved.values.get("env")
    if isinstance(rendered.get("env"), dict) and isinstance(configuration["env"], dict) and env:
        rendered["env"] = rendered["env"] | env
    return rendered, resolved


def parts_of(base_job_template: dict[str, Json]) -> tuple[dict[str, Json], dict[str, Json]]:
    """``variables`` and ``job_configuration`` of a template; what is missing or null is empty.

    Raises:
        Invalid: one of them is something else than a mapping.
    """
    parts = []
    for key in ("variables", "job_configuration"):
        part = base_job_template.get(key)
        if part is not None and not isinstance(part, dict):
            raise Invalid(f"'{key}' of the base job template must be a mapping, not {type(part).__name__}")
        parts.append(part or {})
    return parts[0], parts[1]


class _Merge:
    """Values and their origins while layers are laid over each other."""

    def __init__(self) -> None:
        self.values: dict[str, Json] = {}
        self.origin: dict[str, str] = {}

    def put(self, key: str, value: Json, layer: str, *, deep: bool) -> None:
        """Lay ``value`` over what ``key`` has."""
        self._put(self.values, key, key, value, layer, deep)

    def _put(self, target: dict[str, Json], key: str, path: str, value: Json, layer: str, deep: bool) -> None:
        if deep and isinstance(value, dict) and "$ref" not in value:
            below = target.get(key)
            if not isinstance(below, dict) or "$ref" in below:
                self._forget(path)
                self.origin[path] = layer
                below = {}
            merged = target[key] = dict(below)
            for name, item in value.items():
                self._put(merged, name, f"{path}.{name}", item, layer, deep)
            return
        self._forget(path)
        self.origin[path] = layer
        if value is None:
            target.pop(key, None)
        else:
            target[key] = value

    def _forget(self, path: str) -> None:
        for known in [known for known in self.origin if known.startswith(path + ".")]:
            del self.origin[known]


def _properties(schema: dict[str, Json]) -> dict[str, Json]:
    properties = schema.get("properties")
    return properties if isinstance(properties, dict) else {}


def _is_deep(properties: dict[str, Json], key: str) -> bool:
    attributes = properties.get(key)
    rule = attributes.get("x-merge") if isinstance(attributes, dict) else None
    return bool(rule == "deep" or (rule is None and key == "env"))


def _untangle(
    values: dict[str, Json], properties: dict[str, Json]
) -> tuple[dict[str, Json], dict[str, dict[str, Json]]]:
    """``values`` as they are nested, and what their dotted keys spell, as trees."""
    nested: dict[str, Json] = {}
    dotted: dict[str, dict[str, Json]] = {}
    for key, value in values.items():
        head, *rest = split(key)
        if key in properties or not rest:
            nested[key] = value
            continue
        tree: dict[str, Json] = {rest.pop(): value}
        while rest:
            tree = {rest.pop(): tree}
        dotted[head] = _joined(dotted.get(head, {}), tree)
    return nested, dotted


def _joined(under: dict[str, Json], over: dict[str, Json]) -> dict[str, Json]:
    joined = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(joined.get(key), dict)
        joined[key] = _joined(joined[key], value) if both else value
    return joined


def _placeholder_problems(configuration: dict[str, Json], properties: dict[str, Json]) -> Iterator[Problem]:
    for found in placeholders(configuration):
        path = ("job_configuration", *found.path)
        if found.kind is Kind.FILTER:
            message = f"'{found.text}' is left as it is: a placeholder is a name only"
            yield Problem(severity=Severity.WARNING, message=message, path=path)
        elif found.kind is Kind.CTX and (hint := _unknown_context(found)) is not None:
            message = f"The placeholder '{found.text}' stands for nothing that a run has"
            yield Problem(severity=Severity.WARNING, message=message, path=path, fix=hint)
        elif found.kind is Kind.OUTPUT and found.name not in properties and found.parts[0] not in properties:
            yield Problem(
                message=f"The placeholder '{found.text}' has no variable '{found.parts[0]}'",
                path=path,
                fix=did_you_mean(found.parts[0], properties)
                or f"declare '{found.parts[0]}' under 'variables.properties'",
            )


def _unknown_context(found: Placeholder) -> str | None:
    """What to write instead of a ``{{ ctx.* }}`` that nothing answers (row W25); None if it is known."""
    head, *rest = found.parts
    kind = CONTEXT.get(head)
    if kind is None:
        return did_you_mean(head, CONTEXT) or f"known are: {', '.join(f'ctx.{one}' for one in CONTEXT)}"
    fields = kind.__struct_fields__
    if not rest or rest[0] in fields:
        return None
    return did_you_mean(rest[0], fields) or f"'ctx.{head}' has: {', '.join(sorted(fields))}"


def _unused(configuration: dict[str, Json], properties: dict[str, Json]) -> Iterator[Problem]:
    used = {name for found in placeholders(configuration) for name in (found.name, found.parts[0])}
    if isinstance(configuration.get("env"), dict):
        used.add("env")
    for name in properties:
        if name not in used:
            yield Problem(
                severity=Severity.WARNING,
                message=f"The variable '{name}' has no effect: no placeholder uses it",
                path=("variables", "properties", name),
                fix=f"use '{{{{ {name} }}}}' in 'job_configuration', or remove it",
            )


def _merge_problems(properties: dict[str, Json]) -> Iterator[Problem]:
    """Rules of merging that are none (row P8): a misspelt one would replace in silence."""
    for name, attributes in properties.items():
        rule = attributes.get("x-merge") if isinstance(attributes, dict) else None
        if rule is not None and rule not in _RULES:
            yield Problem(
                message=f"The variable '{name}' has an 'x-merge' that is none: {str(rule)[:50]!r}",
                path=("variables", "properties", name, "x-merge"),
                fix=did_you_mean(str(rule), _RULES) or f"write {' or '.join(_RULES)}",
            )


def _default_problems(schema: dict[str, Json], properties: dict[str, Json]) -> Iterator[Problem]:
    defaults = {
        name: attributes["default"]
        for name, attributes in properties.items()
        if isinstance(attributes, dict) and attributes.get("default") is not None
    }
    for problem in check_values(schema, defaults, required=False):
        yield Problem(
            severity=Severity.WARNING,
            message=f"A default does not fit its own schema: {problem.message}",
            path=("variables", "properties", *problem.path[:1], "default", *problem.path[1:]),
        )


def _at(value: Json, path: Path) -> Json:
    for key in path:
        value = value[key]
    return value


def _is_referred(value: Json, path: Path) -> bool:
    """Whether a reference to a block stands at ``path``, or somewhere above it."""
    for key in path:
        value = value[key]
        if isinstance(value, dict) and isinstance(value.get("$ref"), dict):
            return True
    return False


def _is_open(value: Json) -> bool:
    """Whether ``value`` holds something that is only known later."""
    if isinstance(value, dict):
        return "$ref" in value or any(_is_open(item) for item in value.values())
    if isinstance(value, list):
        return any(_is_open(item) for item in value)
    return bool(placeholders(value))


def _schema_problem(schema: dict[str, Json]) -> str:
    """Why ``schema`` is not a JSON schema; empty if it is one."""
    if schema.get("type", "object") != "object":
        return "its type must be 'object'"
    try:
        check_schema(schema)
    except Invalid as error:
        return error.message
    return ""
