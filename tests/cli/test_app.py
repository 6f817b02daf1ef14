"""How the command line behaves whatever the command: errors, codes, streams, shared options."""

import os
import signal
import subprocess
import sys

import pytest

from eparch.cli import app, failures
from eparch.core import errors
from eparch.version import __version__


def test_version(run):
    assert run("--version", code=0).out == f"{__version__}\n"


def test_unknown_command_suggests_the_nearest(run):
    done = run("work-pol", "ls", code=2)
    assert done.err == "error: There is no command 'eparch work-pol'.\n  do: Did you mean 'work-pool'?\n"
    assert done.out == ""
    assert "Did you mean 'create'?" in run("work-pool", "crete", code=2).err


def test_unknown_option_suggests_the_nearest(run):
    done = run("work-pool", "create", "x", "--typ", "process", code=2)
    assert "No such option" in done.err
    assert "Did you mean '--type'?" in done.err


def test_wrong_value_and_missing_argument_name_the_help(run):
    done = run("work-pool", "set-concurrency-limit", "x", "many", code=2)
    assert "'many' is not a valid integer" in done.err
    assert "do: See: eparch work-pool set-concurrency-limit --help" in done.err
    assert "Missing argument 'NAME'" in run("work-pool", "inspect", code=2).err


@pytest.mark.parametrize("place", ["before", "after"])
def test_shared_options_stand_before_or_after_the_subcommand(run, place, environ):
    options = ["--api-url", "http://127.0.0.1:1/api", "--no-prompt", "-o", "json"]
    words = ["flow", "ls"]
    done = run(*(options + words if place == "before" else words + options), code=6)
    error = done.error()
    assert error["message"] == "Cannot reach the server at http://127.0.0.1:1/api: connection refused."
    assert error["type"] == "Unreachable"
    assert error["exit_code"] == 6
    assert done.out == ""


def test_usage_error_is_json_where_json_was_asked_for(run):
    done = run("flow", "ls", "--limt", "3", "-o", "json", code=2)
    assert done.error()["fix"] == "Did you mean '--limit'?"
    assert run("flow", "ls", "-o", "jsn", code=2).err.startswith("error: ")


def test_server_that_is_not_there_is_three_lines_at_most(run, environ):
    environ.setenv("EPARCH_API_URL", "http://127.0.0.1:1/api")
    done = run("flow-run", "ls", code=6)
    assert done.err.splitlines() == [
        "error: Cannot reach the server at http://127.0.0.1:1/api: connection refused.",
        "  do: Start one with `eparch server start` or set EPARCH_API_URL.",
    ]


def test_setting_that_cannot_be_used_is_named(run, environ):
    environ.setenv("PREFECT_SERVER_API_PORT", "many")
    done = run("flow-run", "ls", code=2)
    assert "PREFECT_SERVER_API_PORT cannot be 'many': expected a whole number" in done.err


def test_debug_shows_the_traceback_and_nothing_else_does(run, environ):
    environ.setenv("EPARCH_API_URL", "http://127.0.0.1:1/api")
    assert "Traceback" not in run("flow", "ls").err
    assert "Traceback" in run("flow", "ls", "--debug").err
    assert "Traceback" in run("--debug", "flow", "ls").err
    environ.setenv("EPARCH_DEBUG", "true")
    assert "Traceback" in run("flow", "ls").err


def test_every_error_has_its_exit_code():
    for kind, code in errors.EXIT.items():
        error = kind([]) if kind is errors.SourceErrors else kind("what")
        assert failures.facts_of(error)[0] == code, kind


def test_error_in_a_file_has_its_place():
    error = errors.SourceError("wrong", file="prefect.yaml", line=3, column=5, why="w", fix="f")
    _, facts = failures.facts_of(error)
    assert failures.lines_of(facts) == ["error: prefect.yaml:3:5: wrong", "  why: w", "  do: f"]
    _, both = failures.facts_of(errors.SourceErrors([error, errors.SourceError("other", file="x")]))
    assert failures.lines_of(both)[-1] == "error: x: other"
    assert len(both["errors"]) == 2


def test_own_mistake_is_told_as_one_without_traceback():
    _, facts = failures.facts_of(KeyError("x"))
    assert "mistake in Eparch" in facts["message"]
    assert "--debug" in facts["fix"]
    code, facts = failures.facts_of(PermissionError(13, "Permission denied", "/x"))
    assert (code, facts["message"]) == (1, "Permission denied /x")


def test_broken_pipe_is_silent(environ):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "eparch", "config", "view", "--show-defaults"],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 141


def test_interrupt_ends_with_130(environ):
    # waits for a server that never comes; its first look is told by the connection that it makes
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        process = subprocess.Popen(
            [sys.executable, "-m", "eparch", "flow", "ls", "--api-url", url], stderr=subprocess.PIPE
        )
        connection, _ = listener.accept()
        connection.recv(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        connection.close()
    assert process.returncode == 130
    assert b"Traceback" not in err


def test_colour_is_for_terminals_unless_asked_for(run, environ):
    assert "\x1b" not in run("doctor", "--api-url", "http://127.0.0.1:1/api").out
    assert "\x1b[" in run("doctor", "--api-url", "http://127.0.0.1:1/api", "--color", "always").out
    environ.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in run("doctor", "--api-url", "http://127.0.0.1:1/api").out
    environ.setenv("NO_COLOR", "1")
    assert "\x1b" not in run("doctor", "--api-url", "http://127.0.0.1:1/api").out


def test_json_wanted_is_seen_on_a_line_that_cannot_be_parsed():
    assert app._wants_json(["x", "-o", "json"])
    assert app._wants_json(["--output=jsonl"])
    assert not app._wants_json(["-o", "table"])
    assert not app._wants_json(["-o"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(run, shell):
    assert "_EPARCH_COMPLETE" in run("completion", shell, code=0).out


def test_completion_completes_commands(environ):
    done = subprocess.run(
        [sys.executable, "-m", "eparch"],
        env={
            **os.environ,
            "_EPARCH_COMPLETE": "bash_complete",
            "COMP_WORDS": "eparch work-",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["plain,work-pool", "plain,work-queue"]


def test_deleting_without_anybody_to_ask_needs_a_yes(run):
    run("profile", "create", "a", code=0)
    done = run("profile", "delete", "a", "--no-prompt", code=2)
    assert "Add --yes." in done.err
    assert run("profile", "delete", "a", "--dry-run", code=0).err == "Would delete profile 'a'.\n"
    run("profile", "delete", "a", "-y", code=0)
    run("profile", "delete", "a", "-y", code=3)
