"""Flows found in source code (rows D2, D5; real-files 2.6)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from eparch.core.errors import SourceError
from eparch.deploy.scan import Entrypoint, find_flows, read_flow, split_entrypoint

FLOWS = '''\
from __future__ import annotations

import prefect
import prefect as p
import eparch
import not_installed_anywhere
from prefect import flow as f
from prefect import task, flow
from not_installed_anywhere import thing

raise RuntimeError("this module must not be imported")


@flow
def plain_flow(x: int, y: str = "z"):
    """Says
    hello."""


@flow(name="Given Name", description="given text", retries=thing.RETRIES)
async def named(x: int): ...


@f()
def aliased(): ...


@prefect.flow
def by_module(): ...


@p.flow(log_prints=True)
def by_alias(): ...


@eparch.flow
def ours(): ...


@thing.decorate
@flow(name=thing.NAME)
def computed_name(): ...


@task
def a_task(): ...


def a_function(): ...


if True:
    @flow
    def conditional(): ...


class Holder:
    @staticmethod
    @flow
    def method(x: int = 1): ...


def outer():
    @flow
    def inner(): ...
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "flows/etl.py", FLOWS)
    return tmp_path


def write(root: Path, path: str, text: str) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_d5_flows_are_found_without_import(root: Path) -> None:
    found = find_flows(root)
    assert [(flow.function_name, flow.name) for flow in found] == [
        ("plain_flow", "plain-flow"),
        ("named", "Given Name"),
        ("aliased", "aliased"),
        ("by_module", "by-module"),
        ("by_alias", "by-alias"),
        ("ours", "ours"),
        ("computed_name", "computed-name"),
        ("conditional", "conditional"),
    ]
    assert all(flow.entrypoint == f"flows/etl.py:{flow.function_name}" for flow in found)
    assert "not_installed_anywhere" not in sys.modules


def test_d5_description_parameters_and_place(root: Path) -> None:
    plain, named = find_flows(root)[:2]
    assert plain.description == "Says\nhello."
    assert (named.description, named.is_async, plain.is_async) == ("given text", True, False)
    assert sorted(plain.parameter_schema["properties"]) == ["x", "y"]
    assert plain.parameter_schema["required"] == ["x"]
    assert str(plain.position) == "flows/etl.py:15:1"


def test_d2_the_order_is_always_the_same(root: Path) -> None:
    for name in ("b/z.py", "b/a.py", "a.py", "z.py"):
        write(root, name, "from prefect import flow\n@flow\ndef b(): ...\n@flow\ndef a(): ...\n")
    entrypoints = [flow.entrypoint for flow in find_flows(root, ignore=["flows"])]
    assert entrypoints == [
        f"{file}:{name}" for file in ("a.py", "z.py", "b/a.py", "b/z.py") for name in ("b", "a")
    ]


def test_d2_what_git_and_prefect_ignore_is_not_searched(root: Path) -> None:
    text = "from prefect import flow\n@flow\ndef no(): ...\n"
    for path in ("build/a.py", "lib/out/a.py", "lib/kept.py", "drafts/a.py", "conda/a.py", "secret.py"):
        write(root, path, text)
    write(root, ".gitignore", "/build/\n*.log\nsecret.py\n")
    write(root, "lib/.gitignore", "out\n")
    write(root, ".prefectignore", "drafts/**\n")
    write(root, "conda/conda-meta/history", "")
    assert {flow.position.file for flow in find_flows(root)} == {"flows/etl.py", "lib/kept.py"}


def test_d2_of_two_functions_with_one_name_the_last_counts(root: Path) -> None:
    flow = "    @flow\n    def one(x: int{}): ...\n"
    text = "from prefect import flow\nif 1:\n" + flow.format("") + "else:\n" + flow.format(" = 2")
    write(root, "two.py", text)
    (found,) = find_flows(root, ignore=["flows"])
    assert (found.position.line, read_flow(found.entrypoint, root).position.line) == (7, 7)


def test_a_computed_name_is_known_to_be_one(root: Path) -> None:
    computed = {flow.function_name for flow in find_flows(root) if flow.is_name_computed}
    assert computed == {"computed_name"}


def test_what_is_skipped(root: Path) -> None:
    text = "from prefect import flow\n@flow\ndef no(): ...\n"
    for folder in (".hidden", "node_modules/x", "env", "lib/site-packages", "__pycache__", "skip/deep"):
        write(root, f"{folder}/no.py", text)
    write(root, "env/pyvenv.cfg", "")
    write(root, "broken.py", "from prefect import flow\n@flow\ndef broken(:\n")
    write(root, "skip_me.py", text)
    write(root, "notes.txt", text)
    assert {flow.position.file for flow in find_flows(root, ignore=["skip/", "skip_*.py"])} == {
        "flows/etl.py"
    }


@pytest.mark.parametrize(
    ("written", "parsed"),
    [
        ("flows/etl.py:f", Entrypoint(path="flows/etl.py", target="f")),
        ("./flows/etl.py:f", Entrypoint(path="./flows/etl.py", target="f")),
        (".\\flows\\etl.py:f", Entrypoint(path="./flows/etl.py", target="f")),
        ("/abs/etl.py:f", Entrypoint(path="/abs/etl.py", target="f")),
        ("C:\\My Code & more\\etl.py:f", Entrypoint(path="C:/My Code & more/etl.py", target="f")),
        ("etl.py:Holder.method", Entrypoint(path="etl.py", target="Holder.method")),
        ("src.workers.discovery:discovery", Entrypoint(module="src.workers.discovery", target="discovery")),
        ("flows:sync", Entrypoint(module="flows", target="sync")),
        ("flows:obj.method", Entrypoint(module="flows", target="obj.method")),
        ("pkg.module.func", Entrypoint(module="pkg.module", target="func")),
    ],
)
def test_forms_of_an_entrypoint(written: str, parsed: Entrypoint) -> None:
    assert split_entrypoint(written) == parsed


@pytest.mark.parametrize(
    "written", ["", "flow", "flows/etl.py", "C:\\x\\etl.py", "etl.py:", "etl.py:my-flow", ":f", "a b"]
)
def test_what_is_no_entrypoint(written: str) -> None:
    with pytest.raises(SourceError) as caught:
        split_entrypoint(written)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("flows/etl.py:plain_flow", "flows/etl.py:plain_flow"),
        ("./flows/etl.py:plain_flow", "flows/etl.py:plain_flow"),
        (".\\flows\\etl.py:plain_flow", "flows/etl.py:plain_flow"),
        ("flows.etl:plain_flow", "flows.etl:plain_flow"),
        ("flows.etl.plain_flow", "flows.etl.plain_flow"),
    ],
)
def test_read_flow(root: Path, written: str, stored: str) -> None:
    flow = read_flow(written, root)
    assert (flow.name, flow.entrypoint, str(flow.position)) == ("plain-flow", stored, "flows/etl.py:15:1")


def test_read_flow_by_absolute_path_and_method(root: Path) -> None:
    assert read_flow(f"{root}/flows/etl.py:named", root).entrypoint == "flows/etl.py:named"
    method = read_flow("flows.etl:Holder.method", root)
    assert (method.name, list(method.parameter_schema["properties"])) == ("method", ["x"])


def test_read_flow_follows_re_exports(root: Path) -> None:
    write(root, "src/pkg/__init__.py", "from .inner import real as shown\nfrom . import loop\n")
    write(root, "src/pkg/inner/__init__.py", "from pkg.inner.deep import real\n")
    write(root, "src/pkg/inner/deep.py", "from prefect import flow\n@flow(name='R')\ndef real(): ...\n")
    flow = read_flow("pkg:shown", root)
    assert (flow.name, flow.entrypoint, flow.position.file) == ("R", "pkg:shown", "src/pkg/inner/deep.py")
    with pytest.raises(SourceError, match="no function 'loop'"):
        read_flow("pkg:loop", root)


@pytest.mark.parametrize(
    ("written", "position", "message", "help_"),
    [
        ("flows/elt.py:plain_flow", "flows/elt.py", "no file 'flows/elt.py'", "'flows/etl.py'"),
        ("flows/etl:plain_flow", "flows/etl", "no file", "write 'flows/etl.py:plain_flow'"),
        ("flows.elt:plain_flow", "", "no module 'flows.elt'", "'flows/etl.py'"),
        ("flows/etl.py:plain_flw", "flows/etl.py", "no function 'plain_flw'", "'plain_flow'"),
        ("flows/etl.py:a_function", "flows/etl.py:49:1", "not a flow", "'@flow'"),
        ("flows/etl.py:a_task", "flows/etl.py:46:1", "not a flow", "@flow"),
        ("flows/etl.py:thing", "flows/etl.py", "no function 'thing'", "flows in it: plain_flow"),
    ],
)
def test_what_cannot_be_read(root: Path, written: str, position: str, message: str, help_: str) -> None:
    with pytest.raises(SourceError) as caught:
        read_flow(written, root)
    error = caught.value
    assert (error.position, message in error.message) == (position, True)
    assert help_ in f"{error.why} {error.fix}"


def test_a_syntax_error_has_its_place(root: Path) -> None:
    write(root, "bad.py", "from prefect import flow\n\n@flow\ndef broken(:\n    pass\n")
    with pytest.raises(SourceError, match="not valid Python") as caught:
        read_flow("bad.py:broken", root)
    assert caught.value.position == "bad.py:4:12"


@pytest.mark.parametrize("content", [b"\0", b"# coding: nonsense\n", b"# \xff\xfe\nx = 1\n", b"(" * 5000])
def test_a_file_that_is_not_python_is_no_traceback(root: Path, content: bytes) -> None:
    (root / "odd.py").write_bytes(content + b"\n# flow")
    with pytest.raises(SourceError):
        read_flow("odd.py:f", root)
    assert {flow.position.file for flow in find_flows(root)} == {"flows/etl.py"}


def test_a_decorator_that_is_re_exported_counts(root: Path) -> None:
    write(root, "own.py", "from mylib.compat import flow\n@flow\ndef mine(): ...\n")
    write(root, "other.py", "import app\ndb = app.make()\n@db.flow\ndef not_mine(): ...\n")
    assert [flow.name for flow in find_flows(root, ignore=["flows"])] == ["mine"]
