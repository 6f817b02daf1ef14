"""``make demo`` does the main job, cleans up, and says which part failed when one does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def play(root: Path, temporary: Path) -> subprocess.CompletedProcess[str]:
    """Run the demo of the tree at ``root``; whatever it writes outside its tree goes below ``temporary``."""
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary), "HOME": str(temporary)}
    return subprocess.run(
        [sys.executable, str(root / "scripts" / "demo.py")],
        env=environment, cwd=temporary, capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip


def copy_tree(folder: Path) -> Path:
    """What the demo needs of the repository, to be changed freely."""
    for name in ("scripts", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_it_runs_both_deployments_and_leaves_nothing(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    before = sorted(tree.rglob("*"))
    done = play(tree, tmp_path / "outside")
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout.partition("==> results")[2]
    assert table.count("Completed") == 2
    # live logs of both, in the order of their runs
    quick, nightly = (done.stdout.index(f"reporting on the {title}") for title in ("three packages", "whole"))
    assert quick < nightly
    assert "reserved at the second attempt" in done.stdout
    assert sorted((tmp_path / "outside").rglob("*")) == []
    assert sorted(tree.rglob("*")) == before


def test_it_names_the_part_that_failed(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    (tree / "examples" / "stdlib_report" / "flows.py").write_text("def report(:\n")
    done = play(tree, tmp_path / "outside")
    assert done.returncode == 1
    assert "The demo failed at deploy" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted((tmp_path / "outside").rglob("*")) == []
