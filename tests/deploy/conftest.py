"""What the tests of deploying share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.deploy.shelf import Folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    return Folder(tmp_path.resolve())
