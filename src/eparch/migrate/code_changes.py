"""Puts ``flow.deploy`` where a deployment was applied, and takes away what nothing needs any more.

Owns the tree of the module as it becomes. What a call means is known elsewhere.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

from eparch.migrate.code import Rewritten, Targets
from eparch.migrate.code_arguments import Arguments, Unproven, Written
from eparch.migrate.code_reading import Names, Site, find_sites, names_in

_Block = TypeVar("_Block", cst.Module, cst.IndentedBlock)
MOST_DEPTH = 100
"""libcst reads with the stack of the process, which deeper code would end."""

_HOME = "prefect.schedules"
_OLD_HOMES = (
    "prefect.client.schemas.schedules.",
    "prefect.infrastructure.",
    "prefect.orion.schemas.schedules.",
    "prefect.server.schemas.schedules.",
)


@dataclass
class Changes:
    """What is put in the place of what; lines that go."""

    calls: dict[cst.CSTNode, cst.BaseExpression] = field(default_factory=dict)
    lines: set[cst.CSTNode] = field(default_factory=set)


def change(text: str, path: str, targets: Targets) -> Rewritten:
    """``text`` with every deployment rewritten that can be; see ``code.rewrite_code``."""
    try:
        if depth_of(ast.parse(text)) > MOST_DEPTH:
            return Rewritten(text, (f"{path}:1: this is nested too deeply to be read; left as it is",))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        return Rewritten(text, (f"{path}:{line}: this is not Python that can be read; left as it is",))
    try:
        wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
        positions = wrapper.resolve(PositionProvider)
    except (cst.ParserSyntaxError, RecursionError) as error:
        line = getattr(error, "raw_line", 1)
        return Rewritten(text, (f"{path}:{line}: this is not Python that can be read; left as it is",))
    module = wrapper.module
    names = Names()
    module.visit(names)
    sites = find_sites(module, names)
    changes, notes = Changes(), []
    written: dict[Site, Written] = {}
    for site in sorted(sites, key=lambda one: positions[one.call].start.line):
        place = f"{path}:{positions[site.call].start.line}"
        try:
            if site.problem:
                raise Unproven(site.problem)
            written[site] = Arguments(site, names, targets, path).write()
            notes += [f"{place}: {note}" for note in written[site].notes]
            notes += _of_upload(site, place)
        except Unproven as error:
            written.pop(site, None)
            notes.append(f"{place}: left as it is: {error}")
    if not written:
        return Rewritten(text, tuple(notes))
    for site, one in written.items():
        _replace(site, one, changes)
    _remove_followed(written, names, changes)
    gone = {name for one in written.values() for name in one.gone} | {"Deployment"}
    gone |= {name for name, home in names.imports.items() if home.endswith(".deployments.Deployment")}
    gone |= {name for name, home in names.imports.items() if home.startswith(_OLD_HOMES)}
    done = _Write(changes)
    changed = module.visit(done)
    changed = _imports(
        changed, gone & names.imports.keys(), {name for one in written.values() for name in one.imports}
    )
    return Rewritten(changed.code, tuple(notes))


def depth_of(tree: ast.AST) -> int:
    """How deeply the nodes of a tree are in each other."""
    deepest, waiting = 0, [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        deepest = max(deepest, depth)
        waiting += [(child, depth + 1) for child in ast.iter_child_nodes(node)]
    return deepest


def _of_upload(site: Site, place: str) -> list[str]:
    """``apply(upload=True)`` also copied the code to its storage.

    Raises:
        Unproven: it does.
    """
    for use in site.uses:
        for arg in use.args:
            keyword = arg.keyword.value if arg.keyword else ""
            if keyword == "upload" and isinstance(arg.value, cst.Name) and arg.value.value == "False":
                continue
            if keyword == "upload":
                raise Unproven(
                    "apply() uploads its code, which deploy does not; put the code there another way"
                )
            if keyword != "work_queue_concurrency":
                raise Unproven("apply() has arguments that are not known; rewrite it by hand")
            return [f"{place}: work_queue_concurrency is dropped; set the limit of the work queue"]
    return []


def _replace(site: Site, written: Written, changes: Changes) -> None:
    """The new call stands where the old deployment was applied; the old line goes."""
    new = _call(site.call, written)
    if site.uses:
        changes.calls[site.uses[0]] = new
        if site.target and site.line is not None:
            changes.lines.add(site.line)
    elif site.target and site.line is not None:
        changes.calls[site.line.body[0]] = new
    else:
        changes.calls[site.call] = new


def _call(old: cst.Call, written: Written) -> cst.Call:
    assert written.flow is not None
    place: cst.BaseExpression = written.flow
    if written.source is not None and written.entrypoint is not None:
        source = [
            cst.Arg(_quoted(value), keyword=cst.Name(name), equal=_EQUAL)
            for name, value in (("source", written.source), ("entrypoint", written.entrypoint))
        ]
        place = cst.Call(cst.Attribute(place, cst.Name("from_source")), source)
    args = list(written.args)
    last = old.args[-1]
    args[-1] = args[-1].with_changes(comma=last.comma, whitespace_after_arg=last.whitespace_after_arg)
    for index, arg in enumerate(args[:-1]):
        if not isinstance(arg.comma, cst.Comma) or arg.comma is last.comma:
            args[index] = arg.with_changes(
                comma=_comma_like(old.args), whitespace_after_arg=cst.SimpleWhitespace("")
            )
    return old.with_changes(func=cst.Attribute(place, cst.Name("deploy")), args=args)


def _comma_like(args: Sequence[cst.Arg]) -> cst.Comma:
    first = args[0].comma
    if len(args) > 1 and isinstance(first, cst.Comma):
        space = first.whitespace_after
        if isinstance(space, cst.ParenthesizedWhitespace):
            space = space.with_changes(first_line=cst.TrailingWhitespace(), empty_lines=[])
        return cst.Comma(whitespace_after=space)
    return cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))


_EQUAL = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))


def _quoted(value: str) -> cst.SimpleString:
    plain = '"' not in value and "\\" not in value and value.isprintable()
    return cst.SimpleString(f'"{value}"' if plain else repr(value))


def _remove_followed(written: dict[Site, Written], names: Names, changes: Changes) -> None:
    """Lines such as ``x = KubernetesJob.load("k")``, when only calls that are rewritten need ``x``."""
    followed = {name for one in written.values() for name in one.followed}
    for name in followed:
        inside = sum(names_in(site.call).count(name) for site in written)
        if names.mentioned[name] == inside + 1:
            changes.lines.add(names.values[name][0])


class _Write(cst.CSTTransformer):
    """Makes the changes; a comment of a line that goes stays where the line was."""

    def __init__(self, changes: Changes) -> None:
        self.changes = changes

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
        """A call that was applied, or that builds."""
        return self.changes.calls.get(original_node, updated_node)

    def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> cst.BaseSmallStatement:
        """``d = build_from_flow(..., apply=True)`` where nothing needs ``d``."""
        new = self.changes.calls.get(original_node)
        return cst.Expr(new) if new is not None else updated_node

    def leave_Module(self, original_node: cst.Module, updated_node: cst.Module) -> cst.Module:
        """The lines of the module."""
        return self._without(original_node, updated_node)

    def leave_IndentedBlock(
        self, original_node: cst.IndentedBlock, updated_node: cst.IndentedBlock
    ) -> cst.BaseSuite:
        """The lines of a block."""
        return self._without(original_node, updated_node)

    def _without(self, original: _Block, updated: _Block) -> _Block:
        if not any(line in self.changes.lines for line in original.body):
            return updated
        body: list[cst.BaseStatement] = []
        kept: list[cst.EmptyLine] = []
        for before, after in zip(original.body, updated.body, strict=True):
            if before in self.changes.lines and isinstance(after, cst.SimpleStatementLine):
                kept += (
                    after.leading_lines
                    if not kept
                    else [line for line in after.leading_lines if line.comment]
                )
                comment = after.trailing_whitespace.comment
                if comment is not None:
                    kept.append(cst.EmptyLine(comment=comment))
                continue
            body.append(_led(after, kept))
            kept = []
        if isinstance(updated, cst.Module):
            footer = [*kept, *updated.footer] if any(line.comment for line in kept) else updated.footer
            return updated.with_changes(body=body, footer=footer)
        footer = [*kept, *updated.footer] if any(line.comment for line in kept) else updated.footer
        return updated.with_changes(body=body or [cst.parse_statement("pass")], footer=footer)


def _led(statement: cst.BaseStatement, kept: list[cst.EmptyLine]) -> cst.BaseStatement:
    """The statement with the lines that stood before one that went; blank ones are not doubled."""
    own = list(getattr(statement, "leading_lines", []))
    if not kept or not hasattr(statement, "leading_lines"):
        return statement
    blank = 0
    while blank < len(own) and not own[blank].comment:
        blank += 1
    last = 0
    while last < len(kept) and not kept[-1 - last].comment:
        last += 1
    kept, own = kept[: len(kept) - last], [cst.EmptyLine(indent=False)] * (max(blank, last) - blank) + own
    return statement.with_changes(leading_lines=[*kept, *own])


def _imports(module: cst.Module, gone: set[str], added: set[str]) -> cst.Module:
    """Without the imports of ``gone`` that nothing needs now, and with those of ``prefect.schedules``."""
    names = Names()
    module.visit(names)
    needless = {name for name in gone if not names.mentioned[name]}
    rewriter = _Imports(needless, {name for name in added if names.imports.get(name) != f"{_HOME}.{name}"})
    changed = module.visit(rewriter)
    return changed.visit(_Write(Changes(lines=rewriter.emptied)))


class _Imports(cst.CSTTransformer):
    def __init__(self, needless: set[str], added: set[str]) -> None:
        self.needless = needless
        self.added = added
        self.emptied: set[cst.CSTNode] = set()
        """Lines of which nothing is left."""

    def leave_SimpleStatementLine(
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.SimpleStatementLine | cst.FlattenSentinel[cst.BaseStatement]:
        """An import, of which fewer names are needed."""
        if len(updated_node.body) != 1 or not isinstance(updated_node.body[0], cst.ImportFrom):
            return updated_node
        found = updated_node.body[0]
        if isinstance(found.names, cst.ImportStar):
            return updated_node
        kept = [
            one for one in found.names if (one.evaluated_alias or one.evaluated_name) not in self.needless
        ]
        if len(kept) == len(found.names):
            return updated_node
        lines: list[cst.BaseStatement] = []
        if self.added:
            aliases = [cst.ImportAlias(cst.Name(name)) for name in sorted(self.added)]
            new = cst.ImportFrom(cst.Attribute(cst.Name("prefect"), cst.Name("schedules")), aliases)
            lines.append(updated_node.with_changes(body=[new]))
            self.added = set()
        if kept:
            kept[-1] = kept[-1].with_changes(comma=found.names[-1].comma)
            line = updated_node.with_changes(body=[found.with_changes(names=kept)])
            lines.append(line.with_changes(leading_lines=[]) if lines else line)
        if lines:
            return cst.FlattenSentinel(lines)
        emptied = updated_node.with_changes(body=[cst.Pass()])
        self.emptied.add(emptied)
        return emptied
