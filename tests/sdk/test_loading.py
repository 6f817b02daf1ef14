"""From an entrypoint to a flow."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eparch.core.errors import SourceError
from eparch.sdk.loading import load_flow

SOURCE = """
from eparch import flow
import beside_{name}

@flow(name="renamed")
def main(): return beside_{name}.VALUE

class Shop:
    @flow
    @staticmethod
    def sell(): return "sold"

def plain(): ...
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder with one module; its name, which no other test uses."""
    name = f"flows_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SOURCE.format(name=name))
    (tmp_path / f"beside_{name}.py").write_text("VALUE = 5")
    (tmp_path / "broken.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield name
    for module, loaded in list(sys.modules.items()):
        # Only those of the folder: what else was imported meanwhile is known elsewhere too.
        if str(getattr(loaded, "__file__", None)).startswith(f"{tmp_path}{os.sep}"):
            del sys.modules[module]


@pytest.mark.parametrize("entrypoint", ["{}.py:main", "{}:main", "{}.main", "./{}.py:main", "{}.py"])
def test_entrypoints_of_every_kind(project: str, entrypoint: str) -> None:
    found = load_flow(entrypoint.format(project))
    assert (found.name, found.fn()) == ("renamed", 5)


def test_a_flow_in_a_class(project: str) -> None:
    assert load_flow(f"{project}.py:Shop.sell").fn() == "sold"


@pytest.mark.parametrize(
    ("entrypoint", "said", "fix"),
    [
        ("{}.py:mian", "There is no flow 'mian'.", "Did you mean 'main'?"),
        ("{}.py:plain", "'plain' is not a flow.", "Decorate it with @flow."),
        ("nofile.py:main", "There is no such file.", ""),
        ("nomodule.main", "There is no module 'nomodule'.", ""),
        ("word", "'word' is not an entrypoint.", "Write path/to/file.py:function or module.function."),
    ],
)
def test_what_cannot_be_found_is_said(project: str, entrypoint: str, said: str, fix: str) -> None:
    with pytest.raises(SourceError) as caught:
        load_flow(entrypoint.format(project))
    assert (caught.value.message, caught.value.fix) == (said, fix)


def test_errors_of_the_file_are_its_own(project: str) -> None:
    with pytest.raises(SyntaxError):
        load_flow("broken.py:f")
    assert "broken" not in sys.modules
    Path("missing_import.py").write_text("import not_there_at_all")
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        load_flow("missing_import:f")
