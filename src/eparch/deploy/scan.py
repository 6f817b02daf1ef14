"""Flows found in source code, which is read and never imported (rows D2, D5).

Owns which functions are flows, how an entrypoint is written, and what can be said about a flow from its
source: name, description, parameters. Does not load flows; a name that is computed is not known here.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import sys
import tokenize
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from eparch.core.errors import SourceError, did_you_mean
from eparch.core.ignoring import Ignored, read_ignored
from eparch.core.model import Json, Value
from eparch.deploy.source import Position

MAX_BYTES = 5_000_000
"""Of a source file."""

Function = ast.FunctionDef | ast.AsyncFunctionDef

_DECORATORS = {
    "prefect.flow",
    "prefect.flows.flow",
    "prefect.main.flow",
    "eparch.flow",
    "eparch.sdk.flow",
    "eparch.sdk.flow.flow",
}
_ENVIRONMENTS = ("pyvenv.cfg", "conda-meta")
_SKIPPED = {"node_modules", "__pycache__", "site-packages"}
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_MAX_HOPS = 8


class FoundFlow(Value, frozen=True, kw_only=True):
    """A flow as its source shows it."""

    name: str
    function_name: str
    entrypoint: str
    description: str | None = None
    parameter_schema: dict[str, Json] = {}
    is_async: bool = False
    is_name_computed: bool = False
    """Whether its code gives it a name that cannot be read; ``name`` is then that of the function."""
    position: Position


class Entrypoint(Value, frozen=True, kw_only=True):
    """Where a flow is: in a file (``path``) or a module (``module``), under the name ``target``."""

    path: str = ""
    module: str = ""
    target: str


def find_flows(root: Path, ignore: Collection[str] = ()) -> list[FoundFlow]:
    """The flows in the Python files below ``root``, by path and then by line: always in the same order.

    Hidden directories, virtual environments, ``node_modules``, what ``.gitignore`` files, ``.prefectignore``
    and the patterns of ``ignore`` (as in ``.gitignore``) leave out are not searched, and files that are not
    valid Python have none. Of functions with one name the last counts, as it does for Python.
    """
    found = []
    for path in _python_files(root, ignore):
        try:
            if b"flow" not in path.read_bytes():
                continue
            module = _parse(path, path.relative_to(root).as_posix())
        except (SourceError, OSError):
            continue
        names = _imports(module)
        last = {function.name: function for function in _functions(module.body)}
        for function in sorted(last.values(), key=lambda one: one.lineno):
            if _decorator(function, names) is not None:
                relative = path.relative_to(root).as_posix()
                entrypoint = f"{relative}:{function.name}"
                found.append(_describe(function, module, names, entrypoint, relative))
    return found


def read_flow(entrypoint: str, root: Path) -> FoundFlow:
    """The flow that ``entrypoint`` names; paths and modules are sought from ``root``.

    Raises:
        SourceError: there is no such file, module or function, it is not a flow, or the file is not Python.
    """
    parsed = split_entrypoint(entrypoint)
    path = _file_of(parsed, entrypoint, root)
    file = _shown(path, root)
    source = parsed.path and f"{file}:{parsed.target}"
    function, module, path = _follow(parsed.target, path, root, hops=_MAX_HOPS)
    return _describe(function, module, _imports(module), source or entrypoint, _shown(path, root))


def split_entrypoint(entrypoint: str) -> Entrypoint:
    """The parts of ``path.py:func``, ``module:func``, ``module:obj.method`` or ``module.func``.

    A path may start with ``./`` or a drive and may have backslashes; the last colon counts.

    Raises:
        SourceError: it is none of these.
    """
    text = entrypoint.strip()
    place, _, target = text.rpartition(":")
    if text.endswith(".py") or (_DRIVE.match(text) and len(place) == 1):
        raise SourceError(f"'{text}' names no function", fix=f"write '{text}:name_of_the_flow'")
    if not place:
        place, _, target = text.rpartition(".")
    if not place or not all(part.isidentifier() for part in target.split(".")):
        why = (
            f"'{target}' is not a name of a function" if place else "it does not name both file and function"
        )
        fix = "write 'path/to/file.py:function'"
        raise SourceError(f"'{entrypoint}' is not an entrypoint", why=why, fix=fix)
    if place.endswith(".py") or "/" in place or "\\" in place:
        return Entrypoint(path=place.replace("\\", "/"), target=target)
    return Entrypoint(module=place, target=target)


def _python_files(root: Path, ignore: Collection[str]) -> Iterator[Path]:
    rules: dict[Path, Ignored] = {}
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        rules[here] = read_ignored(_patterns(here, files, ignore if here == root else ()))
        folders[:] = sorted(
            name
            for name in folders
            if name not in _SKIPPED
            and not name.startswith(".")
            and not any((here / name / mark).exists() for mark in _ENVIRONMENTS)
            and not _is_ignored(here / name, root, rules, is_directory=True)
        )
        for name in sorted(files):
            path = here / name
            if name.endswith(".py") and path.is_file() and not _is_ignored(path, root, rules):
                yield path


def _patterns(folder: Path, files: Collection[str], more: Collection[str]) -> str:
    texts = []
    for name in (".gitignore", ".prefectignore"):
        if name in files:
            with contextlib.suppress(OSError):
                texts.append((folder / name).read_text(errors="replace"))
    return "\n".join([*texts, *more])


def _is_ignored(path: Path, root: Path, rules: Mapping[Path, Ignored], *, is_directory: bool = False) -> bool:
    """Whether a rule of a folder from ``root`` down to that of ``path`` leaves it out."""
    for folder in (path.parent, *path.parent.parents):
        if rules[folder](path.relative_to(folder).as_posix(), is_directory):
            return True
        if folder == root:
            break
    return False


def _shown(path: Path, root: Path) -> str:
    try:
        return path.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        return path.as_posix()


def _file_of(parsed: Entrypoint, entrypoint: str, root: Path) -> Path:
    if parsed.module:
        found = _module_file(parsed.module, _roots(root))
        if found is None:
            hint = did_you_mean(parsed.module.replace(".", "/") + ".py", _known_files(root))
            fix = hint or "write 'path/to/file.py:function'"
            raise SourceError(f"There is no module '{parsed.module}' ({entrypoint})", fix=fix)
        return found
    path = root / parsed.path
    if path.is_file():
        return path
    if not parsed.path.endswith(".py") and path.with_name(path.name + ".py").is_file():
        fix = f"write '{parsed.path}.py:{parsed.target}'"
    else:
        fix = did_you_mean(parsed.path.removeprefix("./"), _known_files(root))
    fix = fix or f"paths count from {root}"
    raise SourceError(f"There is no file '{parsed.path}' ({entrypoint})", file=parsed.path, fix=fix)


def _known_files(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in _python_files(root, ())]


def _roots(root: Path) -> list[Path]:
    return [root, root / "src", *(Path(entry) for entry in sys.path if entry)]


def _module_file(module: str, folders: list[Path]) -> Path | None:
    parts = module.split(".")
    for folder in folders:
        package = folder.joinpath(*parts)
        for path in (package.with_name(package.name + ".py"), package / "__init__.py"):
            if path.is_file():
                return path
    return None


def _parse(path: Path, file: str) -> ast.Module:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SourceError("The file is too large", file=file, why=f"it has more than {MAX_BYTES:,} bytes")
        with tokenize.open(path) as stream:
            return _tree(stream.read(), str(path))
    except SyntaxError as error:
        raise SourceError(
            f"This is not valid Python: {error.msg}",
            file=file,
            line=error.lineno or 0,
            column=error.offset or 0,
            why="the flow's file is read to find its name and parameters",
        ) from None
    except OSError as error:
        raise SourceError("The file cannot be read", file=file, why=error.strerror or str(error)) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise SourceError("This is not valid Python", file=file, why=str(error)) from None


@lru_cache(maxsize=64)
def _tree(text: str, file: str) -> ast.Module:
    """The module in ``text``; many deployments may share one file."""
    return ast.parse(text, filename=file)


def _functions(body: list[ast.stmt]) -> Iterator[Function]:
    """The functions of a module, those under ``if`` and ``try`` too; not methods, not inner functions."""
    for statement in body:
        if isinstance(statement, Function):
            yield statement
        for part in ("body", "orelse", "finalbody"):
            if isinstance(statement, ast.If | ast.Try | ast.With):
                yield from _functions(getattr(statement, part, []))
        for handler in getattr(statement, "handlers", []):
            yield from _functions(handler.body)


@lru_cache(maxsize=64)
def _imports(module: ast.Module) -> dict[str, str]:
    """What every imported name stands for: ``f`` -> ``prefect.flow``; a leading dot is a relative import."""
    names: dict[str, str] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            for alias in node.names:
                joint = "" if origin.endswith(".") else "."
                names[alias.asname or alias.name] = f"{origin}{joint}{alias.name}"
    return names


def _decorator(function: Function, names: dict[str, str]) -> ast.expr | None:
    """The decorator that makes ``function`` a flow.

    Any decorator whose last part is ``flow`` and that is not known to be something else counts: projects wrap
    or re-export the decorator.
    """
    for decorator in function.decorator_list:
        dotted = _dotted(decorator.func if isinstance(decorator, ast.Call) else decorator)
        head, _, rest = dotted.partition(".")
        full = ".".join(filter(None, [names.get(head, head), rest]))
        if full in _DECORATORS or (full.rpartition(".")[2] == "flow" and (rest == "" or head in names)):
            return decorator
    return None


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        inner = _dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return node.id if isinstance(node, ast.Name) else ""


def _describe(
    function: Function, module: ast.Module, names: dict[str, str], entrypoint: str, file: str
) -> FoundFlow:
    from eparch.core.signatures import schema_of_ast

    decorator = _decorator(function, names)
    keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
    given = {
        keyword.arg: keyword.value.value
        for keyword in keywords
        if isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str)
    }
    return FoundFlow(
        is_name_computed="name" not in given and any(one.arg == "name" for one in keywords),
        name=given.get("name") or function.name.replace("_", "-"),
        function_name=function.name,
        entrypoint=entrypoint,
        description=given.get("description") or ast.get_docstring(function),
        parameter_schema=schema_of_ast(function, module),
        is_async=isinstance(function, ast.AsyncFunctionDef),
        position=Position(file=file, line=function.lineno, column=function.col_offset + 1),
    )


def _follow(target: str, path: Path, root: Path, hops: int) -> tuple[Function, ast.Module, Path]:
    """The flow called ``target`` in the file at ``path``, or in the module that it is imported from."""
    file = _shown(path, root)
    module = _parse(path, file)
    names = _imports(module)
    function = _named(module.body, target.split("."))
    if function is not None and _decorator(function, names) is not None:
        return function, module, path
    flows = [one.name for one in _functions(module.body) if _decorator(one, names) is not None]
    there = f"flows in it: {', '.join(flows)}" if flows else "it has no flow"
    if function is not None:
        raise SourceError(
            f"'{target}' is a function but not a flow",
            file=file,
            line=function.lineno,
            column=function.col_offset + 1,
            why="it has no @flow decorator",
            fix=did_you_mean(target, flows) or "write '@flow' above it",
        )
    origin = names.get(target)
    if origin is not None and hops:
        there_path = _imported_from(origin, path, root)
        if there_path is not None:
            return _follow(origin.rpartition(".")[2], there_path, root, hops - 1)
    why = f"{there}; what is computed or assigned is not seen without importing"
    raise SourceError(f"There is no function '{target}'", file=file, why=why, fix=did_you_mean(target, flows))


def _named(body: list[ast.stmt], names: list[str]) -> Function | None:
    """The last function called so; a dotted name goes through classes."""
    if len(names) == 1:
        return next((one for one in reversed(list(_functions(body))) if one.name == names[0]), None)
    for statement in body:
        if isinstance(statement, ast.ClassDef) and statement.name == names[0]:
            return _named(statement.body, names[1:])
    return None


def _imported_from(origin: str, path: Path, root: Path) -> Path | None:
    """The file of the module in the dotted ``origin``, seen from the file at ``path``."""
    dots = len(origin) - len(origin.lstrip("."))
    name = origin.lstrip(".").rpartition(".")[0]
    if not dots:
        return _module_file(name, _roots(root)) if name else None
    folder = path.parent
    for _ in range(dots - 1):
        folder = folder.parent
    if not name:
        init = folder / "__init__.py"
        return init if init.is_file() and init != path else None
    return _module_file(name, [folder])
