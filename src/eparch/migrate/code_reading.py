"""Reads what a module says of deployments: imports, names, and which call is applied where.

Owns proving: a deployment that is used in any other way than ``apply`` is not one that can be moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import libcst as cst

CLASSES = ("prefect.deployments", "prefect.deployments.deployments")
APPLIED = "its .apply() is not found here; rewrite it by hand as flow.deploy(...)"


@dataclass(eq=False)
class Site:
    """One ``Deployment.build_from_flow(...)`` and the place where it is registered."""

    call: cst.Call
    line: cst.SimpleStatementLine | None
    """The statement that the call is in."""
    target: str = ""
    """The name that it is assigned to, until it is applied."""
    uses: list[cst.Call] = field(default_factory=list)
    """Each ``name.apply()``."""
    problem: str = ""

    @property
    def local_names(self) -> set[str]:
        """Names in its arguments."""
        return {name for arg in self.call.args for name in names_in(arg.value)}


class Names(cst.CSTVisitor):
    """Counts how often names are mentioned and assigned, and what assigns them."""

    def __init__(self) -> None:
        self.mentioned: Counter[str] = Counter()
        self.stored: Counter[str] = Counter()
        self.values: dict[str, tuple[cst.SimpleStatementLine, cst.BaseExpression]] = {}
        self.imports: dict[str, str] = {}
        self.flows: set[str] = set()
        self._in_import = False

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        """``from a import b as c`` says that ``c`` is ``a.b``."""
        if not isinstance(node.names, cst.ImportStar):
            module = "." * len(node.relative) + (dotted(node.module) if node.module else "")
            for alias in node.names:
                self.imports[alias.evaluated_alias or alias.evaluated_name] = (
                    f"{module}.{alias.evaluated_name}"
                )
        return False

    def visit_Import(self, node: cst.Import) -> bool:
        """Names of modules are none of a deployment's."""
        return False

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        """Only the first name of a dotted one is a name of this module."""
        node.value.visit(self)
        return False

    def visit_Arg(self, node: cst.Arg) -> bool:
        """A keyword is no name of this module."""
        node.value.visit(self)
        return False

    def visit_Name(self, node: cst.Name) -> None:
        """A mention, of whatever kind."""
        self.mentioned[node.value] += 1

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        """A flow can be deployed by the name of its function."""
        self.stored[node.name.value] += 1
        for decorator in node.decorators:
            wanted = decorator.decorator
            called = wanted.func if isinstance(wanted, cst.Call) else wanted
            if dotted(called).rpartition(".")[2] == "flow":
                self.flows.add(node.name.value)

    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> None:
        """``name = value`` on a line of its own."""
        if len(node.body) == 1 and isinstance(node.body[0], cst.Assign):
            assign = node.body[0]
            if len(assign.targets) == 1 and isinstance(assign.targets[0].target, cst.Name):
                self.values[assign.targets[0].target.value] = (node, assign.value)

    def visit_AssignTarget(self, node: cst.AssignTarget) -> None:
        """Also ``a[0] = x`` changes ``a``."""
        self.stored.update(names_in(node.target))

    def visit_AugAssign(self, node: cst.AugAssign) -> None:
        """``a += x`` changes ``a``."""
        self.stored.update(names_in(node.target))

    def visit_AnnAssign(self, node: cst.AnnAssign) -> None:
        """``a: T = x`` assigns ``a``."""
        self.stored.update(names_in(node.target))

    def visit_For(self, node: cst.For) -> None:
        """The variable of a loop changes."""
        self.stored.update([*names_in(node.target)] * 2)

    def visit_Param(self, node: cst.Param) -> None:
        """A parameter hides a name of the module."""
        self.stored[node.name.value] += 1

    def visit_AsName(self, node: cst.AsName) -> None:
        """``with x as a`` assigns ``a``."""
        self.stored.update(names_in(node.name))


class _Mentions(cst.CSTVisitor):
    def __init__(self) -> None:
        self.found: list[str] = []

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        node.value.visit(self)
        return False

    def visit_Arg(self, node: cst.Arg) -> bool:
        node.value.visit(self)
        return False

    def visit_Name(self, node: cst.Name) -> None:
        self.found.append(node.value)


def names_in(node: cst.CSTNode) -> list[str]:
    """Every name that is mentioned below ``node``, keywords and attributes apart."""
    mentions = _Mentions()
    node.visit(mentions)
    return mentions.found


def dotted(node: cst.CSTNode) -> str:
    """``a.b.c`` as text; empty for anything else."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr.value}" if before else ""
    return ""


def origin(names: Names, node: cst.CSTNode) -> str:
    """What ``node`` is by the imports: ``prefect.deployments.Deployment``; empty if that is not known."""
    first, dot, rest = dotted(node).partition(".")
    return names.imports[first] + dot + rest if first in names.imports else ""


def is_build(names: Names, node: cst.CSTNode) -> bool:
    """Whether ``node`` is a call of ``Deployment.build_from_flow``."""
    return isinstance(node, cst.Call) and origin(names, node.func) in {
        f"{module}.Deployment.build_from_flow" for module in CLASSES
    }


def find_sites(module: cst.Module, names: Names) -> list[Site]:
    """Every call that builds a deployment, with the calls that apply it."""
    sites: dict[int, Site] = {}
    _walk(module.body, {}, names, sites)
    for call in _calls(module):
        if is_build(names, call) and id(call) not in sites:
            sites[id(call)] = Site(call, None, problem="it is part of something larger; rewrite it by hand")
        elif origin(names, call.func) in {f"{one}.Deployment" for one in CLASSES}:
            sites[id(call)] = Site(
                call, None, problem="Deployment(...) does not name its flow; write flow.deploy(...) by hand"
            )
    found = list(sites.values())
    for site in found:
        if site.target and not site.problem:
            same = [one for one in found if one.target == site.target]
            uses = sum(len(one.uses) for one in same)
            if len(site.uses) > 1:
                site.problem = f"'{site.target}' is applied more than once; rewrite it by hand"
            if names.mentioned[site.target] != uses + len(same):
                site.problem = (
                    f"'{site.target}' is also used otherwise; rewrite it by hand as flow.deploy(...)"
                )
    return found


def _calls(module: cst.Module) -> Iterator[cst.Call]:
    found: list[cst.Call] = []

    class Calls(cst.CSTVisitor):
        def visit_Call(self, node: cst.Call) -> None:
            found.append(node)

    module.visit(Calls())
    yield from found


def _walk(
    body: Sequence[cst.CSTNode], pending: dict[str, Site], names: Names, sites: dict[int, Site]
) -> None:
    """Follow the statements of a block in their order; ``pending`` are deployments not applied yet."""
    for statement in body:
        if isinstance(statement, cst.SimpleStatementLine) and _simple(statement, pending, names, sites):
            continue
        for site in pending.values():
            if not site.uses and not _is_scope(statement) and _changes(statement, site, names):
                site.problem = "what it is made of may change before it is applied; rewrite it by hand"
        for block in _blocks(statement):
            _walk(block, {} if _is_scope(statement) else dict(pending), names, sites)


def _changes(statement: cst.CSTNode, site: Site, names: Names) -> bool:
    """Whether a statement may change a name that the arguments of the deployment have."""
    seen = Names()
    statement.visit(seen)
    touched = set(seen.stored)

    class Methods(cst.CSTVisitor):
        def visit_Call(self, node: cst.Call) -> None:
            if isinstance(node.func, cst.Attribute) and node.func.attr.value != "apply":
                touched.update(names_in(node.func.value))

    statement.visit(Methods())
    return bool(touched & site.local_names - names.flows)


def _is_scope(statement: cst.CSTNode) -> bool:
    return isinstance(statement, cst.FunctionDef | cst.ClassDef)


def _blocks(statement: cst.CSTNode) -> Iterator[Sequence[cst.CSTNode]]:
    for child in statement.children:
        if isinstance(child, cst.IndentedBlock):
            yield child.body
        elif isinstance(child, cst.Else | cst.Finally | cst.ExceptHandler | cst.If):
            yield from _blocks(child)


def _simple(
    line: cst.SimpleStatementLine, pending: dict[str, Site], names: Names, sites: dict[int, Site]
) -> bool:
    """Whether the line is one of those that are understood: it builds, applies, or both."""
    if len(line.body) != 1:
        return False
    small = line.body[0]
    if isinstance(small, cst.Assign) and is_build(names, small.value):
        assert isinstance(small.value, cst.Call)
        target = small.targets[0].target
        site = sites[id(small.value)] = Site(small.value, line, problem=APPLIED)
        if len(small.targets) == 1 and isinstance(target, cst.Name):
            site.target = target.value
            pending[target.value] = site
            if applies_itself(site.call):
                site.problem = ""
        return True
    if not isinstance(small, cst.Expr):
        return False
    value = small.value.expression if isinstance(small.value, cst.Await) else small.value
    if is_build(names, value):
        assert isinstance(value, cst.Call)
        sites[id(value)] = Site(value, line, problem="" if applies_itself(value) else APPLIED)
        return True
    if not isinstance(value, cst.Call) or not isinstance(value.func, cst.Attribute):
        return False
    if value.func.attr.value != "apply":
        return False
    inner = value.func.value
    if is_build(names, inner):
        assert isinstance(inner, cst.Call)
        sites[id(inner)] = Site(inner, line, uses=[value])
        return True
    if isinstance(inner, cst.Name) and inner.value in pending:
        site = pending[inner.value]
        site.uses.append(value)
        site.problem = "" if site.problem == APPLIED else site.problem
        return True
    return False


def applies_itself(call: cst.Call) -> bool:
    """Whether ``apply=True`` is among the arguments."""
    return any(
        arg.keyword is not None
        and arg.keyword.value == "apply"
        and isinstance(arg.value, cst.Name)
        and arg.value.value == "True"
        for arg in call.args
    )
