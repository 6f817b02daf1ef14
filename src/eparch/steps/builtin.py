"""The shipped steps that need nothing but this machine (features 1.5, "Steps shipped").

Arguments and outputs are Prefect's. Does not own git, images or object storage.
"""

from __future__ import annotations

import os
import shlex
import string
import sys

from eparch.core.errors import StepFailed
from eparch.steps.command import run_command


def set_working_directory(directory: str) -> dict[str, str]:
    """Change this process's working directory; ``~`` is the home directory.

    Returns:
        ``directory``: its absolute path.

    Raises:
        StepFailed: there is no such directory on this machine.
    """
    try:
        os.chdir(os.path.expanduser(directory))
    except OSError as error:
        raise StepFailed(
            f"The working directory cannot be '{directory}'",
            why=f"{error.strerror or error} on this machine",
            fix="pull the code onto the machine that runs the flow with 'git_clone', or correct the path",
        ) from error
    return {"directory": os.getcwd()}


def run_shell_script(
    script: object,
    directory: str | None = None,
    env: dict[str, str] | None = None,
    stream_output: bool = True,
    expand_env_vars: bool = False,
    shell: bool = False,
) -> dict[str, str]:
    """Run ``script`` on this machine.

    Each line is one command and is run without a shell, so ``|``, ``&&`` and ``cd`` mean nothing to it; with
    ``shell`` the script is given to ``/bin/sh -e`` as a whole. ``env`` is laid over the environment;
    ``expand_env_vars`` replaces ``$NAME`` in commands that run without a shell.

    Returns:
        ``stdout`` and ``stderr`` of all commands.

    Raises:
        StepFailed: a command ended with another exit code than 0; those after it did not run.
    """
    if not isinstance(script, str):
        raise StepFailed("'script' must be a text", why=f"it is {script!r}", fix="put it in quotes")
    given = {name: str(value) for name, value in (env or {}).items()}
    known = {**os.environ, **given}
    if shell:
        text = string.Template(script).safe_substitute(known) if expand_env_vars else script
        captured = run_command(
            ["/bin/sh", "-e", "-c", text],
            directory=directory,
            env=given,
            stream_output=stream_output,
            shown=_first_line(script),
        )
        return {"stdout": captured.stdout, "stderr": captured.stderr}
    stdout, stderr = [], []
    for line in _commands(script):
        command = string.Template(line).safe_substitute(known) if expand_env_vars else line
        captured = run_command(
            _split(command), directory=directory, env=given, stream_output=stream_output, shown=line
        )
        stdout.append(captured.stdout)
        stderr.append(captured.stderr)
    return {"stdout": "\n".join(filter(None, stdout)), "stderr": "\n".join(filter(None, stderr))}


def pip_install_requirements(
    directory: str | None = None,
    requirements_file: str = "requirements.txt",
    stream_output: bool = True,
) -> dict[str, str]:
    """Install a requirements file into the Python that runs this.

    Returns:
        ``stdout`` and ``stderr`` of pip.

    Raises:
        StepFailed: pip failed.
    """
    captured = run_command(
        [sys.executable, "-m", "pip", "install", "-r", requirements_file],
        directory=directory,
        stream_output=stream_output,
        shown=f"pip install -r {requirements_file}",
    )
    return {"stdout": captured.stdout, "stderr": captured.stderr}


def _commands(script: str) -> list[str]:
    """The commands of a script: its lines, without empty ones and comments; a backslash joins two."""
    lines = script.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise StepFailed(
            f"'{command}' is not a command",
            why=str(error),
            fix="each line is one command; set 'shell: true' for a script of several lines",
        ) from error


def _first_line(script: str) -> str:
    lines = script.strip().splitlines()
    return (lines[0] + (" ..." if len(lines) > 1 else "")) if lines else ""
