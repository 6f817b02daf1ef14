"""Whether and how the package of a worker type is installed (row W10): the real pip, a local folder."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.workers.scripted import Scripted

from eparch.core.errors import InfrastructureError, NotFound
from eparch.workers import installing
from eparch.workers.installing import bring_type, find_requirement

MODULE = """
from eparch.testing.infrastructure import FakeInfrastructure

class Moon(FakeInfrastructure):
    type = "moon"
    version = "{version}"
"""


def make_wheel(folder: Path, version: str) -> None:
    """A package that brings the worker type ``moon`` by its entry point."""
    info = f"eparch_moon-{version}.dist-info"
    files = {
        "eparch_moon.py": MODULE.format(version=version),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: eparch-moon\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[eparch.workers]\nmoon = eparch_moon:Moon\n",
    }
    record = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},"
        f"{len(text.encode())}"
        for name, text in files.items()
    ]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]) + "\n"
    with zipfile.ZipFile(folder / f"eparch_moon-{version}-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)


SCRIPT = """
import sys
from tests.workers.scripted import Scripted
from eparch.core.errors import EparchError
from eparch.workers.installing import bring_type
server = Scripted()
server.views = {"eparch-moon": {"moon": {}}, "prefect": {"process": {}}}
try:
    print(bring_type(server, "moon", sys.argv[1]).version)
except EparchError as error:
    print(type(error).__name__, error.fix)
"""


@pytest.fixture
def moon(tmp_path):
    """Asks for the type under a policy, in a process whose pip sees only a folder of wheels."""
    wheels, target = tmp_path / "wheels", tmp_path / "target"
    wheels.mkdir()
    target.mkdir()
    make_wheel(wheels, "1.0")
    root = Path(__file__).parents[2]
    env = {
        **os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_TARGET": str(target),
        "PYTHONPATH": os.pathsep.join([str(target), str(root)]),
    }  # fmt: skip

    def ask(policy: str) -> str:
        command = [sys.executable, "-c", SCRIPT, policy]
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
        )
        return done.stdout.strip()

    ask.wheels = wheels  # type: ignore[attr-defined]
    return ask


def test_w10_a_type_is_installed_as_the_policy_says(moon):
    assert moon("never").startswith("NotFound")
    assert "pip install 'eparch-moon'" in moon("prompt")
    assert moon("if-not-present") == "1.0"
    make_wheel(moon.wheels, "2.0")
    assert moon("if-not-present") == "1.0"
    assert moon("never") == "1.0"
    assert moon("always") == "2.0"


def test_w10_what_cannot_be_installed_is_told(moon):
    for wheel in moon.wheels.iterdir():
        wheel.unlink()
    assert moon("if-not-present") == "InfrastructureError Install it by hand."


def test_w10_what_is_asked_for_is_an_extra_or_the_package_that_the_server_names():
    server = Scripted()
    server.views = {
        "prefect-docker": {"docker": {}},
        "eparch": {"process": {}},
        "--index-url=http://evil.example": {"evil": {}},
        "eparch-moon": {"moon": {}},
    }
    assert find_requirement(server, "process") is None
    assert find_requirement(server, "evil") is None
    assert find_requirement(server, "nobody") is None
    assert find_requirement(server, "moon") == "eparch-moon"
    assert find_requirement(server, "docker") == "eparch[docker]"
    assert find_requirement(server, "postgres") is None


def test_w10_a_type_that_is_there_is_not_installed(monkeypatch):
    monkeypatch.setattr(installing, "install", lambda requirement: pytest.fail(requirement))
    for policy in ("if-not-present", "never", "prompt", "always"):
        assert bring_type(Scripted(), "process", policy).type == "process"
    with pytest.raises(NotFound, match="no worker type 'nobody'"):
        bring_type(Scripted(), "nobody", "if-not-present")


@pytest.mark.parametrize(("answer", "installs"), [("y\n", True), ("n\n", False), ("", False)])
def test_w10_prompt_asks_who_is_there(monkeypatch, answer, installs):
    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return answer

        def write(self, text: str) -> None:
            asked.append(text)

        def flush(self) -> None:
            return

    asked: list[str] = []
    wanted: list[str] = []
    server = Scripted()
    server.views = {"eparch-moon": {"moon": {}}}
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(installing, "install", wanted.append)
    with pytest.raises((NotFound, InfrastructureError)):
        bring_type(server, "moon", "prompt")
    assert "Install 'eparch-moon'" in asked[0]
    assert bool(wanted) is installs
