"""What the arguments of ``build_from_flow`` are as arguments of ``flow.deploy`` (row M8).

Owns the table of arguments. An argument whose meaning cannot be proven raises ``Unproven``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import libcst as cst

from eparch.migrate.code import Targets
from eparch.migrate.code_reading import Names, Site, dotted, names_in, origin

_KEPT = {
    "name", "version", "tags", "description", "parameters", "triggers", "work_queue_name",
    "enforce_parameter_schema",
}  # fmt: skip
_DROPPED = {
    "apply": "",
    "output": "no YAML file is written any more; see: eparch deploy",
    "skip_upload": "",
    "ignore_file": "",
    "load_existing": "",
    "flow_name": "",
    "timestamp": "",
    "manifest_path": "",
}
_SCHEDULES = {
    "CronSchedule": ("cron", "Cron", ("timezone", "day_or")),
    "IntervalSchedule": ("interval", "Interval", ("anchor_date", "timezone")),
    "RRuleSchedule": ("rrule", "RRule", ("timezone",)),
}
_OVERRIDES = {"infra_overrides", "job_variables"}


class Unproven(Exception):
    """Why a call is left as it is, and what to do."""


@dataclass
class Written:
    """The new call: the flow, the place that its code comes from, the arguments."""

    flow: cst.BaseExpression | None = None
    source: str | None = None
    entrypoint: str | None = None
    args: list[cst.Arg] = field(default_factory=list)
    imports: set[str] = field(default_factory=set)
    """Names of ``prefect.schedules``."""
    followed: set[str] = field(default_factory=set)
    """Names whose assignment is in the call now."""
    gone: set[str] = field(default_factory=set)
    """Imported names that the old call needed."""
    notes: list[str] = field(default_factory=list)


class Arguments:
    """Maps the arguments of one call."""

    def __init__(self, site: Site, names: Names, targets: Targets, path: str) -> None:
        self.names = names
        self.targets = targets
        self.path = path
        self.given = _named(site.call.args)
        self.written = Written()

    def write(self) -> Written:
        """The new call.

        Raises:
            Unproven: what an argument means here is not known.
        """
        unknown = self.given.keys() - _KEPT - _DROPPED.keys() - _OVERRIDES
        unknown -= {"flow", "schedule", "is_schedule_active", "infrastructure", "storage", "entrypoint"}
        unknown -= {"work_pool_name"}
        if unknown:
            raise Unproven(f"the argument {min(unknown)!r} has no place in flow.deploy; rewrite it by hand")
        if "flow" not in self.given or "name" not in self.given:
            raise Unproven("flow and name are not both given; rewrite it by hand")
        flow = self.given["flow"].value
        if not dotted(flow):
            raise Unproven("its flow is not a plain name; rewrite it by hand as flow.deploy(...)")
        self.written.flow = flow
        pool = self._pool()
        self._storage(dotted(flow))
        last = [*self.given.values()][-1]
        for name, arg in self.given.items():
            kept = len(self.written.args)
            self._one(name, arg, pool)
            if len(self.written.args) == kept and arg is not last:
                _check_comment(arg)
        if self.written.args[-1].comma is not last.comma:
            _check_comment(self.written.args[-1])
        if pool is not None:
            self._add("work_pool_name", pool, after="name")
        return self.written

    def _one(self, name: str, arg: cst.Arg, pool: cst.BaseExpression | None) -> None:
        if name in _KEPT:
            self.written.args.append(_with_keyword(arg, name))
        elif name in ("infrastructure", "work_pool_name") and pool is not None:
            taken = any(dotted(one.keyword or arg) == "work_pool_name" for one in self.written.args)
            if not taken:
                self.written.args.append(_with_keyword(arg.with_changes(value=pool), "work_pool_name"))
        elif name in _OVERRIDES:
            self.written.args.append(
                _with_keyword(arg.with_changes(value=_nested(arg.value)), "job_variables")
            )
        elif name == "schedule":
            keyword, value = self._schedule(arg.value)
            if keyword:
                self.written.args.append(_with_keyword(arg.with_changes(value=value), keyword))
        elif _DROPPED.get(name):
            self.written.notes.append(f"{name!r} is dropped: {_DROPPED[name]}")

    def _add(self, keyword: str, value: cst.BaseExpression, *, after: str) -> None:
        args = self.written.args
        if any(one.keyword is not None and one.keyword.value == keyword for one in args):
            return
        at = next(i for i, one in enumerate(args) if one.keyword is not None and one.keyword.value == after)
        args.insert(at + 1, args[at].with_changes(keyword=cst.Name(keyword), value=value))
        comma = args[at].comma
        if isinstance(comma, cst.Comma) and "#" in cst.Module([]).code_for_node(comma):
            args[at + 1] = args[at + 1].with_changes(comma=cst.Comma(cst.SimpleWhitespace(""), _plain(comma)))

    # What the old code names

    def _follow(self, value: cst.BaseExpression) -> cst.BaseExpression:
        """What a local name stands for, if it is assigned once."""
        name = dotted(value)
        if name in self.names.values and self.names.stored[name] == 1:
            found = self.names.values[name][1]
            if all(self.names.stored[one] <= 1 for one in names_in(found)):
                self.written.followed.add(name)
                return found
        return value

    def _block(self, value: cst.BaseExpression, kind: str) -> str:
        """``KubernetesJob/name`` of ``KubernetesJob.load("name")``."""
        value = self._follow(value)
        if isinstance(value, cst.Await):
            value = value.expression
        if isinstance(value, cst.Call) and isinstance(value.func, cst.Attribute):
            block = origin(self.names, value.func.value).rpartition(".")[2]
            name = _text(value.args[0].value) if len(value.args) == 1 else None
            if block and value.func.attr.value == "load" and name is not None:
                self.written.gone.add(dotted(value.func.value).partition(".")[0])
                return f"{block}/{name}"
        raise Unproven(f"its {kind} is not a block that is loaded by name; rewrite it by hand")

    def _pool(self) -> cst.BaseExpression | None:
        infrastructure = self.given.get("infrastructure")
        if infrastructure is not None and not _is_none(infrastructure.value):
            value = self._follow(infrastructure.value)
            if isinstance(value, cst.Call) and not value.args:
                made = origin(self.names, value.func)
                if made.rpartition(".")[2] == "Process":
                    self.written.gone.add(dotted(value.func).partition(".")[0])
                    return self._default()
            block = self._block(infrastructure.value, "infrastructure")
            if block not in self.targets.infrastructure:
                raise Unproven(f"the work pool of the block {block} is not known; convert the block first")
            return _string(self.targets.infrastructure[block])
        named = self.given.get("work_pool_name")
        if named is None or _is_none(named.value):
            return self._default()
        text = _text(named.value)
        new = self.targets.pools.get(text or "")
        return _string(new) if new and new != text else named.value

    def _default(self) -> cst.BaseExpression:
        if self.targets.default_pool is None:
            raise Unproven("it names no work pool; say which one such deployments use")
        return _string(self.targets.default_pool)

    def _storage(self, flow: str) -> None:
        storage, entrypoint = self.given.get("storage"), self.given.get("entrypoint")
        if storage is None or _is_none(storage.value):
            if entrypoint is not None and not _is_none(entrypoint.value):
                raise Unproven("its entrypoint is not that of the flow; rewrite it by hand")
            return
        block = self._block(storage.value, "storage")
        if block not in self.targets.storage:
            raise Unproven(f"the address of the storage block {block} is not known; convert the block first")
        self.written.source = self.targets.storage[block]
        if entrypoint is not None:
            self.written.entrypoint = _text(entrypoint.value)
        else:
            self.written.entrypoint = self._entrypoint(flow)
        if self.written.entrypoint is None:
            raise Unproven(f"the file of the flow {flow!r} is not known; rewrite it by hand with from_source")
        if not self.written.source.endswith(".git") and entrypoint is None:
            said = f"{self.written.source} has to hold the repository from its root, as the entrypoint says"
            self.written.notes.append(said)

    def _entrypoint(self, flow: str) -> str | None:
        if flow in self.names.flows:
            return f"{self.path}:{flow}"
        module, _, function = self.names.imports.get(flow, "").rpartition(".")
        if not module or module.startswith("."):
            return None
        folder = self.path.rpartition("/")[0]
        file = module.replace(".", "/") + ".py"
        found = {one for one in (file, f"{folder}/{file}" if folder else file) if one in self.targets.files}
        return f"{found.pop()}:{function}" if len(found) == 1 else None

    # Schedules

    def _schedule(self, value: cst.BaseExpression) -> tuple[str, cst.BaseExpression]:
        """The keyword of ``deploy`` and its value; an empty keyword where there is no schedule."""
        if _is_none(value):
            return "", value
        value = self._follow(value)
        if isinstance(value, cst.Dict) and "is_schedule_active" not in self.given:
            return "schedule", value
        made = origin(self.names, value.func) if isinstance(value, cst.Call) else ""
        kind = made.rpartition(".")[2]
        if not isinstance(value, cst.Call) or not made.startswith("prefect.") or kind not in _SCHEDULES:
            raise Unproven(
                "its schedule is not made in this file; rewrite it by hand as cron=, interval= or rrule="
            )
        keyword, function, others = _SCHEDULES[kind]
        given = _named(value.args)
        if keyword not in given or given.keys() - {keyword, *others}:
            raise Unproven(f"{kind} has arguments that are not known; rewrite it by hand")
        self.written.gone.add(dotted(value.func).partition(".")[0])
        active = self._active()
        rest = [arg for name, arg in given.items() if name != keyword and not _is_none(arg.value)]
        if not rest and active is None:
            return keyword, given[keyword].value
        self.written.imports.add(function)
        first = given[keyword].with_changes(keyword=None, equal=cst.MaybeSentinel.DEFAULT)
        args = [first, *rest, *([active] if active else [])]
        ordered = _commas(args) if len(args) != len(value.args) else _spaced(args, value.args)
        return "schedule", value.with_changes(func=cst.Name(function), args=ordered)

    def _active(self) -> cst.Arg | None:
        """``active=False`` where the deployment's schedules were not to run."""
        given = self.given.get("is_schedule_active")
        if given is None or _is_none(given.value) or dotted(given.value) == "True":
            return None
        if dotted(given.value) != "False":
            raise Unproven("whether its schedule is active is not known; rewrite it by hand")
        return cst.Arg(cst.Name("False"), keyword=cst.Name("active"), equal=_EQUAL)


_EQUAL = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))


def _named(args: Sequence[cst.Arg]) -> dict[str, cst.Arg]:
    """Arguments by their names; the first two of ``build_from_flow`` may have none.

    Raises:
        Unproven: there are ``*`` or ``**``.
    """
    if any(arg.star for arg in args):
        raise Unproven("its arguments come from elsewhere (* or **); rewrite it by hand")
    order = ("flow", "name")
    found: dict[str, cst.Arg] = {}
    for index, arg in enumerate(args):
        if arg.keyword is None and index >= len(order):
            raise Unproven("its arguments have no names; rewrite it by hand")
        found[arg.keyword.value if arg.keyword else order[index]] = arg
    return found


def _with_keyword(arg: cst.Arg, keyword: str) -> cst.Arg:
    if arg.keyword is not None:
        return arg.with_changes(keyword=cst.Name(keyword))
    return arg.with_changes(keyword=cst.Name(keyword), equal=_EQUAL)


def _check_comment(arg: cst.Arg) -> None:
    """A comment of an argument that goes would be lost.

    Raises:
        Unproven: there is one.
    """
    bare = arg.with_changes(value=cst.Name("x"))
    if "#" in cst.Module([]).code_for_node(bare):
        raise Unproven("a comment stands at an argument that goes; rewrite it by hand")


def _text(value: cst.BaseExpression) -> str | None:
    if isinstance(value, cst.SimpleString) and isinstance(value.evaluated_value, str):
        return value.evaluated_value
    return None


def _string(value: str) -> cst.SimpleString:
    if '"' not in value and "\\" not in value and value.isprintable():
        return cst.SimpleString(f'"{value}"')
    return cst.SimpleString(repr(value))


def _is_none(value: cst.BaseExpression) -> bool:
    return isinstance(value, cst.Name) and value.value == "None"


def _plain(comma: cst.Comma) -> cst.BaseParenthesizableWhitespace:
    """The space after a comma without its comment."""
    space = comma.whitespace_after
    if isinstance(space, cst.ParenthesizedWhitespace):
        return space.with_changes(first_line=cst.TrailingWhitespace(), empty_lines=[])
    return space


def _commas(args: list[cst.Arg]) -> list[cst.Arg]:
    return [arg.with_changes(comma=cst.MaybeSentinel.DEFAULT) for arg in args]


def _spaced(args: list[cst.Arg], before: Sequence[cst.Arg]) -> list[cst.Arg]:
    return [
        arg.with_changes(comma=old.comma, whitespace_after_arg=old.whitespace_after_arg)
        for arg, old in zip(args, before, strict=True)
    ]


def _nested(value: cst.BaseExpression) -> cst.BaseExpression:
    """Overrides with dots in their keys as mappings in mappings (row M6).

    Raises:
        Unproven: they are not written out, or cannot be nested.
    """
    if not isinstance(value, cst.Dict):
        if names_in(value):
            raise Unproven(
                "its overrides are made elsewhere, and keys of them may have dots; rewrite by hand"
            )
        return value
    keys = [_text(one.key) if isinstance(one, cst.DictElement) else None for one in value.elements]
    if None in keys:
        raise Unproven("keys of its overrides are not written out; rewrite it by hand")
    names = [str(key) for key in keys]
    if any(name.partition(".")[0] == "customizations" for name in names):
        raise Unproven("its overrides customize a manifest; change the template of the work pool instead")
    if not any("." in name for name in names):
        return value
    heads = [name.partition(".")[0] for name in names]
    if len(set(heads)) != len(heads) or any(name.count(".") > 1 for name in names):
        return _grouped(value, names)
    elements = []
    for name, element in zip(names, value.elements, strict=True):
        assert isinstance(element, cst.DictElement)
        head, dot, rest = name.partition(".")
        if dot:
            inner = cst.Dict([cst.DictElement(_string(rest), element.value)])
            element = element.with_changes(key=_string(head), value=inner)
        elements.append(element)
    return value.with_changes(elements=elements)


def _grouped(value: cst.Dict, names: list[str]) -> cst.BaseExpression:
    """Several keys with one beginning, written anew in one line.

    Raises:
        Unproven: one is inside another, or there is a comment, which would be lost.
    """
    if "#" in cst.Module([]).code_for_node(value):
        raise Unproven("its overrides have comments between them; rewrite it by hand")
    tree: dict[str, object] = {}
    for name, element in zip(names, value.elements, strict=True):
        at = tree
        *heads, last = name.split(".")
        for head in heads:
            inner = at.setdefault(head, {})
            if not isinstance(inner, dict):
                raise Unproven(f"its overrides say {name!r} twice; rewrite it by hand")
            at = inner
        if last in at:
            raise Unproven(f"its overrides say {name!r} twice; rewrite it by hand")
        at[last] = element.value
    return _dict(tree)


def _dict(tree: dict[str, object]) -> cst.Dict:
    elements = []
    for key, value in tree.items():
        node = _dict(value) if isinstance(value, dict) else value
        assert isinstance(node, cst.BaseExpression)
        elements.append(cst.DictElement(_string(key), node))
    return cst.Dict(elements)
