import sys

import pytest

from eparch.core.errors import StepFailed
from eparch.steps.command import OUTPUT, run_command


@pytest.fixture
def lines():
    told: list[str] = []
    token = OUTPUT.set(told.append)
    yield told
    OUTPUT.reset(token)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_both_streams_are_kept_apart_and_told(lines):
    captured = run_command(python("import sys; print('out'); print('err', file=sys.stderr)"))
    assert (captured.stdout, captured.stderr) == ("out", "err")
    assert sorted(lines) == ["err", "out"]


def test_quiet_output_is_kept_and_not_told(lines):
    assert run_command(python("print('out')"), stream_output=False).stdout == "out"
    assert lines == []


def test_much_on_both_streams_does_not_block(lines):
    code = "import sys\nfor i in range(20000): print('o' * 50); print('e' * 50, file=sys.stderr)"
    captured = run_command(python(code), stream_output=False)
    assert len(captured.stdout.splitlines()) == len(captured.stderr.splitlines()) == 20000


def test_failure_names_the_command_its_code_and_last_lines():
    with pytest.raises(StepFailed) as caught:
        run_command(python("import sys; print('x' * 3); sys.exit('went wrong')"), shown="the command")
    assert caught.value.message == "'the command' ended with exit code 1"
    assert caught.value.why == "xxx\nwent wrong"


def test_secrets_are_hidden_wherever_output_goes(lines):
    with pytest.raises(StepFailed) as caught:
        run_command(
            python("import sys; print('a s3cret b'); sys.exit('s3cret')"), shown="x", hidden=["s3cret"]
        )
    assert lines == ["a *** b", "***"] or lines == ["***", "a *** b"]
    assert "s3cret" not in caught.value.why


def test_unknown_program_and_directory_are_explained(tmp_path):
    with pytest.raises(StepFailed, match="could not be started"):
        run_command(["no-such-program-here"])
    with pytest.raises(StepFailed) as caught:
        run_command(["true"], directory=tmp_path / "missing")
    assert caught.value.why == "there is no such directory"


def test_bytes_that_are_no_text_do_not_break_it():
    code = "import sys; sys.stdout.buffer.write(bytes([255, 10]))"
    assert run_command(python(code), stream_output=False).stdout == "\ufffd"
