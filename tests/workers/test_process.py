import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from eparch.core.errors import InfrastructureError, Invalid
from eparch.testing.infrastructure import FakeInfrastructure, InfrastructureContract
from eparch.workers import descendants
from eparch.workers.infrastructure import explain_exit
from eparch.workers.process import ProcessInfrastructure, ProcessJob
from eparch.workers.streams import TAIL_BYTES


class TestProcessContract(InfrastructureContract):
    def make(self) -> ProcessInfrastructure:
        return ProcessInfrastructure()


class TestProcessContractByPs(TestProcessContract):
    """Where there is no /proc, as on macOS."""

    @pytest.fixture(autouse=True)
    def _no_proc(self, monkeypatch):
        monkeypatch.setattr(descendants, "_PROC", False)


class TestFakeContract(InfrastructureContract):
    def make(self) -> FakeInfrastructure:
        return FakeInfrastructure()

    def successor(self, infrastructure):
        return infrastructure

    def job(self, script, labels):
        return {"command": script, "labels": dict(labels)}


@pytest.fixture
def processes():
    return ProcessInfrastructure()


def shell(script: str, **more) -> ProcessJob:
    return ProcessJob(command=["/bin/sh", "-c", script], stream_output=False, **more)


def start(processes: ProcessInfrastructure, job: ProcessJob) -> str:
    return processes.start(job, lambda handle: None)


def pid_of(handle: str) -> int:
    return int(handle.split(":")[1])


def told_by_ps(pid: int, column: str) -> str:
    """What ps says of a process, on Linux as on macOS; empty when it is gone."""
    command = ["ps", "-ww", "-o", f"{column}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def is_alive(pid: int) -> bool:
    state = told_by_ps(pid, "stat")
    return bool(state) and state[0] not in "ZX"


def read_pipe(path: Path) -> str:
    """What a job writes to a named pipe: opening it waits for the job."""
    with path.open() as pipe:
        return pipe.read()


@pytest.fixture
def pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_w22_user_code_waits_until_the_handle_is_recorded(processes, tmp_path):
    made = tmp_path / "made"
    seen: list[bool] = []

    def recorded(handle: str) -> None:
        # The process is there, it has not become the command, and it holds nothing but its gate.
        seen.append("workers.holder" in told_by_ps(pid_of(handle), "command") and not made.exists())

    handle = processes.start(shell(f"touch {made}"), recorded)
    assert seen == [True]
    assert processes.watch(handle).code == 0
    assert made.exists()


def test_w22_a_worker_that_dies_before_recording_starts_no_user_code(tmp_path):
    made = tmp_path / "made"
    code = (
        "import os, signal, sys\n"
        "from eparch.workers.process import ProcessInfrastructure, ProcessJob\n"
        f"job = ProcessJob(command=['touch', {str(made)!r}])\n"
        "def die(handle):\n"
        "    print(handle, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "ProcessInfrastructure().start(job, die)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    # Its output is closed only when the gate is gone too, so it is over by now.
    assert done.stdout.strip()
    assert not made.exists()


def test_a_process_has_a_session_of_its_own(processes):
    handle = start(processes, shell("sleep 600"))
    assert os.getsid(pid_of(handle)) == pid_of(handle) != os.getsid(0)
    processes.stop(handle, 5)


def test_w20_descendants_that_ignore_sigterm_are_killed(processes, pipe):
    wait = "wait; sleep 600"
    script = f"trap '' TERM; sh -c \"trap '' TERM; sleep 600 & {wait}\" & echo $! > {pipe}; {wait}"
    handle = start(processes, shell(script))
    child = int(read_pipe(pipe))
    processes.stop(handle, 0.2)
    assert not is_alive(pid_of(handle))
    assert not is_alive(child)
    assert processes.watch(handle).code == -signal.SIGKILL


def test_w20_a_descendant_that_left_the_group_is_ended(processes, pipe):
    away = f"import os, time; os.setsid(); open({str(pipe)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    job = ProcessJob(
        command=["/bin/sh", "-c", f'"{sys.executable}" -c "{away}" & sleep 600'], stream_output=False
    )
    handle = start(processes, job)
    escaped = int(read_pipe(pipe))
    assert os.getpgid(escaped) != pid_of(handle)
    processes.stop(handle, 5)
    assert not is_alive(escaped)


def test_what_a_finished_process_left_running_is_ended(processes, pipe):
    handle = start(processes, shell(f"sleep 600 & echo $! > {pipe}"))
    child = int(read_pipe(pipe))
    assert processes.watch(handle).code == 0
    assert not is_alive(child)


def test_a_killed_process_says_so(processes):
    handle = start(processes, shell("echo about to die >&2; kill -9 $$"))
    seen = processes.watch(handle)
    assert (seen.code, seen.stderr) == (-signal.SIGKILL, "about to die")


def test_w24_environment_is_inherited_laid_over_and_removed(processes, tmp_path, monkeypatch):
    monkeypatch.setenv("KEPT", "kept")
    monkeypatch.setenv("CHANGED", "old")
    monkeypatch.setenv("REMOVED", "x")
    out = tmp_path / "out"
    job = shell(f'echo "$KEPT $CHANGED ${{REMOVED-none}}" > {out}', env={"CHANGED": "new", "REMOVED": None})
    processes.watch(start(processes, job))
    assert out.read_text() == "kept new none\n"


def test_working_directory_is_temporary_unless_set(processes, tmp_path):
    out = tmp_path / "out"
    processes.watch(start(processes, shell(f"pwd > {out}; touch inside")))
    temporary = Path(out.read_text().strip())
    assert temporary != Path.cwd()
    assert not temporary.exists()
    processes.watch(start(processes, shell(f"pwd > {out}; touch inside", working_dir=str(tmp_path))))
    assert out.read_text().strip() == str(tmp_path)
    assert (tmp_path / "inside").exists()


def test_missing_working_directory_and_program(processes):
    with pytest.raises(InfrastructureError) as caught:
        start(processes, shell("exit 0", working_dir="/no/such/place"))
    assert "working_dir" in caught.value.fix
    with pytest.raises(InfrastructureError, match="'no-such-program-here' was not found"):
        start(processes, ProcessJob(command="no-such-program-here", stream_output=False))
    with pytest.raises(InfrastructureError, match="could not be started"):
        start(processes, shell("exit 0", env={"A": "a\0b"}))
    with pytest.raises(Invalid, match="command"):
        processes.render({"command": "open 'quote"})


def test_output_is_shown_in_whole_lines_or_not_at_all(processes, capsys):
    script = "printf 'one\\ntw'; printf 'o\\n'; echo err >&2; printf last"
    processes.watch(processes.start(ProcessJob(command=["/bin/sh", "-c", script]), lambda handle: None))
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("one\ntwo\nlast\n", "err\n")
    processes.watch(start(processes, shell(script)))
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_endless_output_neither_blocks_nor_grows(processes):
    line = "echo $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx >&2"
    script = f"i=0; while [ $i -lt 3000 ]; do {line}; i=$((i+1)); done"
    seen = processes.watch(start(processes, shell(script)))
    assert seen.code == 0
    assert seen.stderr.splitlines()[-1].startswith("2999 ")
    long = processes.watch(start(processes, shell("head -c 1000000 /dev/zero | tr '\\0' 'x' >&2")))
    assert 0 < len(long.stderr) <= TAIL_BYTES


def test_no_descriptor_and_no_process_is_left(processes):
    def held() -> int:
        return len(os.listdir("/proc/self/fd" if os.path.exists("/proc/self/fd") else "/dev/fd"))

    processes.watch(start(processes, shell("exit 0")))
    before = held()
    for _ in range(10):
        processes.watch(start(processes, shell("exit 0")))
        with pytest.raises(ZeroDivisionError):
            processes.start(shell("exit 0"), lambda handle: 1 / 0)  # type: ignore[arg-type,return-value]
        processes.stop(start(processes, shell("sleep 600")), 5)
    assert held() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_another_instance_finds_watches_and_stops_what_one_started(processes):
    labels = {"run": str(uuid4())}
    handle = start(processes, shell("sleep 600", labels=labels))
    other = ProcessInfrastructure()
    assert other.find(labels) == [handle]
    other.stop(handle, 5)
    assert other.watch(handle).code is None
    assert processes.watch(handle).code == -signal.SIGTERM


def test_w17_lines_that_nobody_read_are_shown_by_the_next_worker(processes, pipe, capsys):
    script = f"echo one; echo two >&2; echo ready > {pipe}; read more < {pipe}; echo three; exit 4"
    handle = start(processes, ProcessJob(command=["/bin/sh", "-c", script]))
    processes.close()
    read_pipe(pipe)
    capsys.readouterr()
    other = ProcessInfrastructure()
    assert other.adopt(handle)
    pipe.write_text("on\n")
    seen = other.watch(handle)
    shown = capsys.readouterr()
    assert "three" in shown.out.splitlines()
    assert (seen.code, seen.stderr) == (4, "two")


def test_w17_a_killed_holder_takes_its_job_with_it(processes, pipe):
    handle = start(processes, shell(f"sleep 600 & echo $PPID $! > {pipe}; wait"))
    holder, child = (int(word) for word in read_pipe(pipe).split())
    os.kill(holder, signal.SIGKILL)
    seen = processes.watch(handle)
    assert seen.code is None
    assert "was killed" in seen.stderr
    assert not is_alive(pid_of(handle))
    assert not is_alive(child)


def test_w20_a_grandchild_that_hides_is_ended_where_the_system_tells(processes, pipe):
    # A session of its own, an empty environment, and a parent that is gone.
    hide = (
        "import os, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        f"open({str(pipe)!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(600)\n"
    )
    command = ["/bin/sh", "-c", f"env -i '{sys.executable}' -c \"$0\"; sleep 600", hide]
    handle = start(processes, ProcessJob(command=command, stream_output=False))
    hidden = int(read_pipe(pipe))
    processes.stop(handle, 5)
    if sys.platform == "linux":
        assert not is_alive(hidden)
    else:
        os.kill(hidden, signal.SIGKILL)


def test_a_number_that_was_used_again_is_not_the_job(processes):
    bystander = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        host = processes._host
        handle = f"{host}:{bystander.pid}:1"
        processes.stop(handle, 0.1)
        assert processes.watch(handle).code is None
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_process_on_another_machine_is_not_taken_for_gone(processes):
    with pytest.raises(InfrastructureError, match="cannot be reached"):
        processes.stop("elsewhere:12:34", 1)


def test_exit_codes_have_a_meaning():
    assert explain_exit(-9) == "ended by SIGKILL, often because memory ran out"
    assert explain_exit(-15) == "ended by SIGTERM"
    assert explain_exit(127) == "exit code 127: the command was not found"
    assert explain_exit(3) == "exit code 3"
    assert explain_exit(None) == "its exit code is not known"


def test_w17_a_job_is_seen_while_it_becomes_another_program(tmp_path):
    again = tmp_path / "again"
    again.write_text(f"exec /bin/sh {again}\n")
    process = subprocess.Popen(["/bin/sh", str(again)], env={descendants.MARK: "a=b"})
    try:
        seen = [descendants.environment_of(process.pid).get(descendants.MARK) for _ in range(2000)]
    finally:
        process.kill()
        process.wait()
    assert set(seen) == {"a=b"}
