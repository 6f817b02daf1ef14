"""``eparch deploy --fix``: the difference is shown first, and nothing is written without a yes."""

import os
import stat

import pytest

FILE = """\
deployments:
  - name: a
    entrypoint: f.py:f
    work_queue_name: fast # it matters
    work_pool:
      name: k8s
"""
FIXED = """\
deployments:
  - name: a
    entrypoint: f.py:f
    work_pool:
      name: k8s
      work_queue_name: fast # it matters
"""


@pytest.fixture
def file(environ, tmp_path):
    environ.chdir(tmp_path)
    path = tmp_path / "prefect.yaml"
    path.write_text(FILE)
    path.chmod(0o640)
    return path


def test_the_difference_is_shown_and_nobody_to_ask_is_an_error(file, run):
    done = run("deploy", "--fix", code=2)
    assert "-    work_queue_name: fast # it matters" in done.out
    assert "+      work_queue_name: fast # it matters" in done.out
    assert "--yes" in done.err
    assert file.read_text() == FILE


def test_yes_writes_it_once_and_keeps_its_rights(file, run):
    run("deploy", "--fix", "-y", code=0)
    assert file.read_text() == FIXED
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert os.listdir(file.parent) == ["prefect.yaml"]
    again = run("deploy", "--fix", code=0)
    assert (again.out, "nothing is to be moved" in again.err) == ("", True)


def test_what_is_left_is_told_with_its_place(file, run):
    other = file.with_name("other.yaml")
    other.write_text(FILE + "    schedulez: []\n")
    done = run("deploy", "--fix", "--prefect-file", "other.yaml", "--yes", code=0)
    assert "other.yaml:7:5: A deployment has no key 'schedulez'; Did you mean 'schedule" in done.err
    assert file.read_text() == FILE
