import os
import subprocess

import pytest

from eparch.core.ignoring import read_ignored

PATHS = [
    *("a.py", "a.pyc", "x/a.pyc", "build", "x/build", "docs/a/b.md", "docs/c.md", "keep.log", "b.log"),
    *("x/y/z.txt", "z1.txt", "z2.txt", "#hash", "a b", "zq/deep/zq", "!bang"),
]
PATTERNS = [
    *("*.pyc", "build/", "/build", "docs/**/b.md", "docs/**", "*.log\n!keep.log", "**/z.txt", "x/*/z.txt"),
    *("z[12].txt", "z[!1].txt", "\\#hash", "# a.py", "", "zq", "zq/**/zq", "\\!bang", "a?b", "?.py", "["),
    "x/",
]


@pytest.mark.parametrize("text", PATTERNS)
def test_patterns_leave_out_what_git_leaves_out(tmp_path, text):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    files = [f"{path}/file" if path == "build" else path for path in PATHS]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".git" / "info" / "exclude").write_text(text + "\n")
    done = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard", "-z"], cwd=tmp_path, capture_output=True,
        text=True, check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"},
    )  # fmt: skip
    ignored = read_ignored(text)

    def kept(name: str) -> bool:
        parts = name.split("/")
        above = ("/".join(parts[:size]) for size in range(1, len(parts)))
        return not any(ignored(folder, True) for folder in above) and not ignored(name, False)

    assert {name for name in files if kept(name)} == set(done.stdout.split("\0")) - {""}
