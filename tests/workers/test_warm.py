"""Runs that are forked from a process that is ready (ADR 0013): as fresh as cold ones, and never two."""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path
from shlex import quote
from uuid import UUID, uuid4

import pytest
from tests.workers.test_end_to_end import Place, is_alive

from eparch.client.http import Client
from eparch.core import calls
from eparch.core.deployments import DeploymentCreate, FlowCreate
from eparch.core.errors import InfrastructureError
from eparch.core.runs import DeploymentFlowRunCreate
from eparch.core.states import StateType
from eparch.testing.infrastructure import InfrastructureContract
from eparch.workers import warm_parent
from eparch.workers.descendants import MARK, environment_of
from eparch.workers.jobs import COMMAND
from eparch.workers.process import ProcessInfrastructure, ProcessJob
from eparch.workers.warm_parent import can_fork, fits

pytestmark = pytest.mark.skipif(not can_fork(), reason="runs start cold on this system")

FLOWS = '''
import asyncio, gc, json, locale, logging, os, random, secrets, signal, sys, tempfile, threading, time, uuid
from eparch import flow

def status(*names):
    lines = (line.split(":\\t") for line in open("/proc/self/status").read().splitlines())
    return {name: value for name, value in lines if name in names}

def descriptors():
    with os.scandir("/proc/self/fd") as entries:
        numbers = sorted(int(entry.name) for entry in entries)
    found = []
    for number in numbers:
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}").partition(":")[0])
        except OSError:
            pass
    return found

def words(name, pid="self"):
    return open(f"/proc/{pid}/{name}", "rb").read().rstrip(b"\\0").decode().split("\\0")

def same():
    """What must be as in every other process of a run."""
    main = sys.modules["__main__"]
    shown = dict(word.partition("=")[::2] for word in words("environ"))
    return {
        "descriptors": descriptors(),
        "standard input": sys.stdin.read(),
        "streams": [(s.encoding, s.errors, s.line_buffering) for s in (sys.stdin, sys.stdout, sys.stderr)],
        "command line": words("cmdline"),
        "holder": words("cmdline", os.getppid())[1:],
        "environment": sorted(os.environ),
        "environment that is shown": sorted(name for name in shown if os.environ.get(name) == shown[name]),
        "own session and group": [os.getsid(0) == os.getpgid(0) == os.getpid()],
        "directory": os.getcwd(),
        "status": status("Umask", "SigBlk", "SigIgn", "SigCgt", "Threads"),
        "handlers": {int(n): str(signal.getsignal(n)).partition(" at ")[0] for n in signal.valid_signals()},
        "wakeup": signal.set_wakeup_fd(-1),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "argv": [sys.argv, sys.orig_argv],
        "path": sys.path,
        "flags": list(sys.flags),
        "main": [main.__name__, main.__spec__.name, main.__package__, main.__file__],
        "collector": [gc.isenabled(), gc.get_threshold(), gc.get_debug()],
        "locale": locale.setlocale(locale.LC_ALL),
        "zone": time.tzname,
        "temporary": tempfile.gettempdir(),
        "log handlers": [len(logging.getLogger().handlers), len(logging.getLogger("eparch").handlers)],
        "priority": [os.getpriority(os.PRIO_PROCESS, 0), open("/proc/self/oom_score_adj").read()],
        "limits": open("/proc/self/limits").read(),
        "left by others": [name for name in sys.modules if name.startswith("left_behind")],
        "numpy": "numpy" in sys.modules,
    }

def own():
    """What no two runs have alike."""
    return {
        "random": random.random(), "uuid1": str(uuid.uuid1()), "uuid4": str(uuid.uuid4()),
        "secret": secrets.token_hex(), "file": tempfile.mktemp(), "bytes": os.urandom(8).hex(),
        "mark": os.environ["_EPARCH_JOB"],
    }

@flow
def look(place, leave):
    seen = {"same": same(), "own": own(), "forked": "eparch.sdk.warm" in sys.modules}
    with open(place, "w") as file:
        json.dump(seen, file)
    if leave:
        import left_behind
        os.environ["LEFT"] = "x"
        os.umask(0o177)
        os.chdir("/")
        sys.path.append("/left")
        sys.argv.append("left")
        random.seed(1)
        gc.disable()
        tempfile.tempdir = "/"
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        logging.getLogger().addHandler(logging.NullHandler())
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        left_behind.file = open("/dev/zero")
        print("not flushed", file=open(place + ".unclosed", "w"))
        left_behind.unclosed = open(place + ".unclosed", "w")
        left_behind.unclosed.write("written at the end")

@flow
def shell(script):
    os.execv("/bin/sh", ["/bin/sh", "-c", script])

@flow
async def later(place):
    await asyncio.sleep(0)
    with open(place, "a") as file:
        file.write(f"once {'eparch.sdk.warm' in sys.modules}\\n")
'''


class Runs:
    """Jobs that are runs of flows on a real server, without a worker."""

    def __init__(self, server, folder: Path) -> None:
        self.client = Client(server.api_url)
        self.folder = folder
        self.env = {"EPARCH_API_URL": server.api_url, "EPARCH_HOME": str(folder / "home")}
        (folder / "flows.py").write_text(FLOWS)
        (folder / "left_behind.py").touch()
        self.deployments: dict[str, UUID] = {}

    def deployment(self, flow: str) -> UUID:
        if flow not in self.deployments:
            made = self.client.send(calls.create_flow(body=FlowCreate(name=flow)))
            body = DeploymentCreate(
                name=uuid4().hex, flow_id=made.id, entrypoint=f"flows.py:{flow}", path=str(self.folder),
            )  # fmt: skip
            self.deployments[flow] = self.client.send(calls.create_deployment(body=body)).id
        return self.deployments[flow]

    def job(self, flow: str, labels: dict[str, str] | None = None, **parameters: object) -> dict[str, object]:
        """The job of a new run."""
        body = DeploymentFlowRunCreate(parameters=parameters)
        call = calls.create_deployment_flow_run(id=self.deployment(flow), body=body)
        run_id = str(self.client.send(call).id)
        return {"env": {**self.env, "EPARCH_FLOW_RUN_ID": run_id}, "labels": labels or {}}

    def state(self, job: dict[str, object]):
        run_id = UUID(job["env"]["EPARCH_FLOW_RUN_ID"])  # type: ignore[index]
        return self.client.send(calls.read_flow_run(id=run_id)).state


@pytest.fixture
def runs(server, tmp_path):
    runs = Runs(server, tmp_path)
    yield runs
    runs.client.close()


@pytest.fixture
def warm():
    processes = ProcessInfrastructure(warm=True)
    yield processes
    processes.close()


def start(processes: ProcessInfrastructure, job: dict[str, object]) -> str:
    return processes.start(processes.render({"stream_output": False, **job}), lambda handle: None)


def parent_of(processes: ProcessInfrastructure) -> int:
    """The process that forks."""
    assert processes._warm is not None
    processes._warm.prepare()
    made = processes._warm._made
    assert made is not None
    return made._process.pid


class TestWarmContract(InfrastructureContract):
    """The contract of every infrastructure: each job is a run that becomes the contract's script."""

    @pytest.fixture(autouse=True)
    def _runs(self, runs, caplog):
        self.runs, self.made = runs, []
        with caplog.at_level(logging.INFO, "eparch.worker"):
            yield
        for one in self.made:
            one.close()
        assert "starts cold" not in caplog.text

    def make(self) -> ProcessInfrastructure:
        self.made.append(ProcessInfrastructure(warm=True))
        return self.made[-1]

    def job(self, script, labels):
        return {
            **self.runs.job("shell", dict(labels), script=f"/bin/sh -c {quote(script)}"),
            "name": "contract",
        }


def look(processes, runs, place: Path, *, leave: bool = False) -> dict:
    job = runs.job("look", place=str(place), leave=leave)
    job["working_dir"] = str(runs.folder)
    (runs.folder / "tmp").mkdir(exist_ok=True)
    job["env"] |= {"TZ": "Asia/Tokyo", "TO_GO": None, "TMPDIR": str(runs.folder / "tmp"), "MORE": "x" * 3000}
    seen = processes.watch(start(processes, job))
    assert seen.code == 0, seen.stderr
    return json.loads(place.read_text())


def test_issue_4_a_forked_run_is_as_fresh_as_one_that_starts_cold(runs, warm, tmp_path, monkeypatch):
    monkeypatch.setenv("TO_GO", "still here")
    fresh = look(ProcessInfrastructure(), runs, tmp_path / "cold")
    first = look(warm, runs, tmp_path / "first", leave=True)
    second = look(warm, runs, tmp_path / "second")
    assert (fresh["forked"], first["forked"], second["forked"]) == (False, True, True)
    assert fresh["same"]["zone"] == ["JST", "JST"]
    assert fresh["same"]["descriptors"][:3] == ["/dev/null", "pipe", "pipe"]
    for name, value in fresh["same"].items():
        assert first["same"][name] == value, name
        assert second["same"][name] == value, name
    for name, value in first["own"].items():
        assert second["own"][name] != value, name
    # What is left open is written by the end of the interpreter, which a forked one has as well.
    assert (tmp_path / "first.unclosed").read_text() == "written at the end"


def test_what_an_interpreter_reads_at_its_start_makes_a_start_cold():
    own = {"HOME": "/home/a", "PATH": "/bin", "PYTHONUNBUFFERED": "1"}
    assert fits(COMMAND, own, own)
    assert fits(COMMAND, {**own, "PATH": "/other", "EPARCH_API_URL": "x", "TZ": "UTC", MARK: "a=b"}, own)
    for name in (
        "PYTHONPATH",
        "PYTHONHASHSEED",
        "PYTHONSTARTUP",
        "LD_PRELOAD",
        "LC_ALL",
        "HOME",
        "COVERAGE_RUN",
    ):
        assert not fits(COMMAND, {**own, name: "/x"}, own), name
        assert not fits(COMMAND, own, {**own, name: "/x"}), name
    assert not fits(("/usr/bin/python3", *COMMAND[1:]), own, own)
    assert not fits((*COMMAND, "more"), own, own)
    assert not fits(COMMAND, {**own, MARK: "x" * 20_000}, own)


def test_issue_4_each_reason_for_a_cold_start_starts_it_once(runs, warm, tmp_path, monkeypatch, caplog):
    """The parent is killed, hangs, is out of date, or has a thread: every run still begins exactly once."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    hook = hooks / "sitecustomize.py"
    hook.write_text("")
    os.utime(hook, (1, 1))
    monkeypatch.setenv("PYTHONPATH", str(hooks))
    count = 0

    def begin() -> str:
        nonlocal count
        count += 1
        job = runs.job("later", place=str(tmp_path / f"{count}"))
        assert warm.watch(start(warm, job)).code == 0
        assert runs.state(job).is_completed()
        return (tmp_path / f"{count}").read_text()

    forked, cold = "once True\n", "once False\n"
    assert begin() == forked
    os.kill(parent_of(warm), signal.SIGKILL)
    # Its socket is closed by the time that it is gone.
    warm._warm._made._process.wait()
    assert [begin(), begin()] == [cold, forked]
    with monkeypatch.context() as short:
        short.setattr(warm_parent, "_ANSWER", 0.5)
        os.kill(parent_of(warm), signal.SIGSTOP)
        assert begin() == cold
    assert begin() == forked
    os.utime(hook, (2, 2))
    with caplog.at_level(logging.INFO, "eparch.worker"):
        assert [begin(), begin()] == [cold, forked]
    assert "the installed code has changed" in caplog.text
    hook.write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    os.utime(hook, (3, 3))
    assert [begin(), begin()] == [cold, cold]


def test_issue_4_forked_runs_go_on_without_their_parent(runs, warm):
    labels = {"contract": uuid4().hex}
    handle = start(warm, runs.job("shell", labels, script="sleep 600"))
    parent = parent_of(warm)
    pid = int(handle.split(":")[1])
    os.kill(parent, signal.SIGKILL)
    warm._warm._made._process.wait()
    assert is_alive(pid)
    assert warm.find(labels) == [handle]
    assert MARK in environment_of(pid)
    warm.stop(handle, 5)
    assert not is_alive(pid)
    # The parent ends with its worker too; what it forked is left to the next one.
    handle = start(warm, runs.job("shell", labels, script="sleep 600"))
    warm.close()
    other = ProcessInfrastructure()
    assert other.adopt(handle)
    other.stop(handle, 5)
    assert not is_alive(int(handle.split(":")[1]))


def test_a_job_that_cannot_begin_says_why_and_is_not_tried_again(runs, warm, tmp_path, caplog):
    gone = tmp_path / "gone"
    gone.mkdir()
    job = ProcessJob(
        **runs.job("later", place=str(tmp_path / "x")), working_dir=str(gone), stream_output=False
    )
    with (
        pytest.raises(InfrastructureError, match="was not found"),
        caplog.at_level(logging.INFO, "eparch.worker"),
    ):
        warm.start(job, lambda handle: gone.rmdir())
    assert not (tmp_path / "x").exists()
    assert "cold" not in caplog.text


def test_issue_4_fifty_runs_at_once_begin_once_each(server, tmp_path):
    place = Place(server, tmp_path)
    place.pipe.unlink()
    with (tmp_path / "flows.py").open("a") as flows:
        flows.write("\n@flow\ndef counted():\n    say(os.environ['EPARCH_FLOW_RUN_ID'] + '\\n')\n")
    first = place.run("counted")
    assert first.deployment_id is not None
    call = calls.create_deployment_flow_run(id=first.deployment_id, body=DeploymentFlowRunCreate())
    made = [first, *(place.client.send(call) for _ in range(49))]
    assert place.worker("--run-once", "--name", "w").wait(240) == 0, place.log()
    ended = [place.state(run) for run in made]
    assert [state.message for state in ended if state.type is not StateType.COMPLETED] == []
    assert sorted(place.pipe.read_text().split()) == sorted(str(run.id) for run in made)
    assert "starts cold" not in place.log()
    place.client.close()
