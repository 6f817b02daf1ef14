"""``eparch run``: a file as python would run it, with the stand-ins for prefect."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any


def test_a_file_that_imports_prefect_runs_with_its_arguments(server: Any, tmp_path: Path) -> None:
    script = tmp_path / "greet.py"
    script.write_text(
        "import sys\n"
        "from prefect import flow, task\n"
        "@task\ndef double(n):\n    return 2 * n\n"
        "@flow\ndef greet(n=1):\n    return double(n)\n"
        "if __name__ == '__main__':\n    print('got', greet(int(sys.argv[2])), sys.argv[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "eparch", "run", str(script), "--name", "21"],
        env=server.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "got 42 --name" in done.stdout
