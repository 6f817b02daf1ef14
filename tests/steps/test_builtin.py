import os

import pytest

from eparch.core.errors import StepFailed
from eparch.steps import builtin


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_set_working_directory_changes_it_and_says_where(tmp_path):
    (tmp_path / "src").mkdir()
    assert builtin.set_working_directory("src") == {"directory": str(tmp_path / "src")}
    assert os.getcwd() == str(tmp_path / "src")


def test_set_working_directory_that_is_missing_says_what_to_do():
    with pytest.raises(StepFailed) as caught:
        builtin.set_working_directory("/no/such/place")
    assert "No such file" in caught.value.why
    assert "git_clone" in caught.value.fix


def test_script_runs_line_by_line_without_a_shell():
    script = "echo one | wc\n\n# a comment\necho 'two words' \\\n  more\n"
    assert builtin.run_shell_script(script, stream_output=False) == {
        "stdout": "one | wc\ntwo words more",
        "stderr": "",
    }


def test_script_stops_at_the_first_failure(tmp_path):
    with pytest.raises(StepFailed, match="exit code 1"):
        builtin.run_shell_script("false\ntouch after", stream_output=False)
    assert not (tmp_path / "after").exists()


def test_script_in_a_shell_keeps_its_state_and_stops_at_the_first_failure(tmp_path):
    (tmp_path / "sub").mkdir()
    made = builtin.run_shell_script(
        "cd sub\necho a | tr a b > file\ncat file", shell=True, stream_output=False
    )
    assert made["stdout"] == "b"
    with pytest.raises(StepFailed):
        builtin.run_shell_script("false\ntouch after", shell=True, stream_output=False)
    assert not (tmp_path / "after").exists()


def test_script_environment_and_expansion(monkeypatch):
    monkeypatch.setenv("OUTER", "outer")
    both = builtin.run_shell_script(
        "echo $OUTER $GIVEN $UNKNOWN", env={"GIVEN": 3}, expand_env_vars=True, stream_output=False
    )
    assert both["stdout"] == "outer 3 $UNKNOWN"
    plain = builtin.run_shell_script("echo $OUTER", stream_output=False)
    assert plain["stdout"] == "$OUTER"
    seen = builtin.run_shell_script("sh -c 'echo $GIVEN'", env={"GIVEN": "g"}, stream_output=False)
    assert seen["stdout"] == "g"


def test_script_with_an_open_quote_is_explained():
    with pytest.raises(StepFailed) as caught:
        builtin.run_shell_script("echo 'open")
    assert "shell: true" in caught.value.fix


def test_pip_installs_into_this_python(tmp_path):
    (tmp_path / "requirements.txt").write_text("# nothing is needed\n")
    told = builtin.pip_install_requirements(directory=str(tmp_path), stream_output=False)
    assert set(told) == {"stdout", "stderr"}
    (tmp_path / "requirements.txt").write_text(f"{tmp_path}/no-such-package\n")
    with pytest.raises(StepFailed, match=r"pip install -r requirements\.txt"):
        builtin.pip_install_requirements(directory=str(tmp_path), stream_output=False)


def test_a_script_that_yaml_reads_as_something_else_is_refused():
    with pytest.raises(StepFailed, match="must be a text") as caught:
        builtin.run_shell_script(True)
    assert "quotes" in caught.value.fix
