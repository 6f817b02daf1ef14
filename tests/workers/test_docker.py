"""Containers of a real engine. One class, so that one process starts one engine."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from uuid import uuid4

import pytest
from tests.workers.engine import IMAGE, running_engine
from tests.workers.image_steps import ImageSteps
from tests.workers.registry import running_registry
from tests.workers.test_service import until

from eparch.client.http import Client
from eparch.core import calls
from eparch.core.deployments import DeploymentCreate, FlowCreate
from eparch.core.errors import InfrastructureError
from eparch.core.pools import WorkPoolCreate
from eparch.core.runs import DeploymentFlowRunCreate, FlowRun, SetState
from eparch.core.states import State, StateCreate, StateType
from eparch.testing.infrastructure import InfrastructureContract
from eparch.workers import docker as worker_docker
from eparch.workers.docker import DockerInfrastructure
from eparch.workers.docker_faults import EngineAway

FLOWS = """
import sys, time
from eparch import flow

@flow(log_prints=True)
def good():
    print("from within")
    print("a bare line", file=sys.__stderr__, flush=True)

@flow
def hungry():
    held = [bytearray(b"x" * 2**20) for _ in range(1000)]

@flow
def long():
    with open("/flows/pipe", "w") as pipe:
        pipe.write("runs")
    with open("/flows/pipe") as pipe:
        print("told:", pipe.read(), file=sys.__stderr__, flush=True)
"""


@pytest.fixture(scope="module")
def engine():
    with running_engine() as engine:
        yield engine


class Place:
    """A pool for containers with a deployment for each flow, and workers."""

    def __init__(self, server, engine, folder: Path) -> None:
        self.client = Client(server.api_url)
        self.pool = f"pool-{uuid4().hex[:8]}"
        self.folder = folder
        self.env = {**server.env, "DOCKER_HOST": engine.url, "EPARCH_HOME": str(folder / "home")}
        self.env["EPARCH_WORKER_ON_STOP"] = "cancel"
        os.mkfifo(folder / "pipe")
        (folder / "flows.py").write_text(FLOWS)
        template = DockerInfrastructure.base_job_template
        body = WorkPoolCreate(name=self.pool, type="docker", base_job_template=template)
        self.client.send(calls.create_work_pool(body=body))

    def run(self, flow: str, **variables) -> FlowRun:
        """A run that is due."""
        made = self.client.send(calls.create_flow(body=FlowCreate(name=flow)))
        given = {
            "image": IMAGE,
            "image_pull_policy": "Never",
            "volumes": [f"{self.folder}:/flows"],
            **variables,
        }
        body = DeploymentCreate(
            name=self.pool, flow_id=made.id, entrypoint=f"flows.py:{flow}", work_pool_name=self.pool,
            pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": "/flows"}}],
            job_variables=given,
        )  # fmt: skip
        deployment = self.client.send(calls.create_deployment(body=body))
        return self.client.send(
            calls.create_deployment_flow_run(id=deployment.id, body=DeploymentFlowRunCreate())
        )

    def worker(self, *more: str) -> subprocess.Popen[str]:
        """A worker; what it says is in ``worker.log``."""
        command = [
            sys.executable,
            "-m",
            "eparch",
            "worker",
            "start",
            "--pool",
            self.pool,
            "-t",
            "docker",
            *more,
        ]
        with (self.folder / "worker.log").open("a") as log:
            return subprocess.Popen(command, env=self.env, stdout=log, stderr=log, text=True)

    def log(self) -> str:
        return (self.folder / "worker.log").read_text()

    def stored(self, run: FlowRun) -> FlowRun:
        return self.client.send(calls.read_flow_run(id=run.id))

    def state(self, run: FlowRun) -> State:
        state = self.stored(run).state
        assert state is not None
        return state

    def begun(self) -> None:
        """Wait until the user code of ``long`` runs."""
        assert (self.folder / "pipe").read_text() == "runs"


class TestDocker(ImageSteps, InfrastructureContract):
    @pytest.fixture(autouse=True)
    def _uses_the_engine(self, engine, monkeypatch):
        monkeypatch.setenv("DOCKER_HOST", engine.url)
        yield
        for container in engine.client.containers.list(all=True):
            container.remove(force=True)

    @pytest.fixture
    def place(self, server, engine, tmp_path):
        place = Place(server, engine, tmp_path)
        yield place
        place.client.close()

    def make(self) -> DockerInfrastructure:
        return DockerInfrastructure()

    def job(self, script, labels):
        return {**super().job(script, labels), "image": IMAGE, "image_pull_policy": "Never"}

    def begin(self, infrastructure, script, recorded=lambda handle: None, **more) -> str:
        return infrastructure.start(infrastructure.render({**self.job(script, {}), **more}), recorded)

    def test_w22_nothing_runs_before_the_handle_is_recorded(self, infrastructure, engine):
        seen = []
        handle = self.begin(
            infrastructure, "exit 0", lambda handle: seen.append(engine.container(handle).status)
        )
        assert seen == ["created"]
        assert infrastructure.watch(handle).code == 0

    def test_what_a_worker_created_and_never_started_is_removed(self, infrastructure, engine):
        def die(handle: str) -> None:
            assert DockerInfrastructure().find({}) == [handle]
            assert "never started" in DockerInfrastructure().watch(handle).reason

        with pytest.raises(InfrastructureError):
            self.begin(infrastructure, "exit 0", die)
        assert engine.client.containers.list(all=True) == []

    def test_a_container_is_made_as_the_job_says(self, infrastructure, engine, tmp_path, monkeypatch, capfd):
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "word").write_text("hello from outside")
        monkeypatch.chdir(tmp_path)
        networks = [engine.client.networks.create(f"net-{number}-{uuid4().hex[:6]}") for number in range(2)]
        script = 'cat /data/word; echo " ${PYTHONPATH-unset}:$OWN"; echo low >&2; exec sleep 600'
        try:
            handle = self.begin(
                infrastructure, script,
                name="my run/№ 1", networks=[network.name for network in networks],
                volumes=["./data:/data:ro"], env={"OWN": "x", "PYTHONPATH": None}, mem_limit="64m",
                memswap_limit="128m", labels={"prefect.io/flow-id": "7", "mine": "y"},
                container_create_kwargs={"user": "0", "working_dir": "/data", "image": "ignored"},
            )  # fmt: skip
            other = self.begin(infrastructure, "exec sleep 600", name="my run/№ 1", network_mode="none")
            made = engine.container(handle)
            assert (made.name, engine.container(other).name) == ("my-run-1", "my-run-1-1")
            assert made.labels["io.prefect.flow-id"] == "7"
            assert made.labels["mine"] == "y"
            settings = made.attrs["HostConfig"]
            assert (settings["Memory"], settings["MemorySwap"]) == (64 * 2**20, 128 * 2**20)
            assert "host.docker.internal:host-gateway" in settings["ExtraHosts"]
            assert set(made.attrs["NetworkSettings"]["Networks"]) == {network.name for network in networks}
            assert made.attrs["Config"]["WorkingDir"] == "/data"
            for each in (handle, other):
                infrastructure.stop(each, 0)
            assert infrastructure.watch(handle).stderr == "low"
            assert "hello from outside unset:x" in capfd.readouterr().out
        finally:
            for container in engine.client.containers.list(all=True):
                container.remove(force=True)
            for network in networks:
                network.remove()

    def test_every_line_is_shown_once_and_the_last_are_kept(self, infrastructure, capfd):
        script = "i=0; while [ $i -lt 3000 ]; do echo line $i; echo err $i >&2; i=$((i+1)); done; printf end"
        seen = infrastructure.watch(self.begin(infrastructure, script, network_mode="none"))
        out, err = capfd.readouterr()
        assert out.splitlines() == [*(f"line {number}" for number in range(3000)), "end"]
        assert err.splitlines() == [f"err {number}" for number in range(3000)]
        assert seen.stderr.splitlines()[-1] == "err 2999"

    def test_the_last_of_its_output_is_told_where_it_wrote_no_error(self, infrastructure):
        assert (
            infrastructure.watch(self.begin(infrastructure, "echo went wrong; exit 3")).stderr == "went wrong"
        )

    def test_output_is_not_shown_where_it_is_not_wanted(self, infrastructure, capfd):
        handle = self.begin(infrastructure, "echo quiet; echo kept >&2", stream_output=False)
        assert infrastructure.watch(handle).stderr == "kept"
        assert "quiet" not in capfd.readouterr().out

    def test_one_that_is_to_be_removed_is_gone_once_its_code_is_taken(self, infrastructure, engine):
        handle = self.begin(infrastructure, "exit 4", auto_remove=True)
        assert infrastructure.watch(handle).code == 4
        assert engine.client.containers.list(all=True) == []
        stopped = self.begin(infrastructure, "exec sleep 600", auto_remove=True)
        infrastructure.stop(stopped, 0)
        assert engine.client.containers.list(all=True) == []

    def test_one_that_ended_while_nobody_was_there_is_collected(self, infrastructure, engine):
        handle = self.begin(infrastructure, "exit 5", auto_remove=True, labels={"of": "pool"})
        infrastructure.close()
        engine.container(handle).wait()
        other = self.make()
        assert other.find({"of": "pool"}) == [handle]
        assert other.adopt(handle)
        assert other.watch(handle).code == 5
        assert other.find({"of": "pool"}) == []
        assert engine.client.containers.list(all=True) == []

    def test_one_that_somebody_removed_is_told(self, infrastructure, engine):
        handle = self.begin(infrastructure, "exec sleep 600")
        seen = []
        thread = threading.Thread(target=lambda: seen.append(infrastructure.watch(handle)))
        thread.start()
        engine.container(handle).remove(force=True)
        thread.join(60)
        assert seen[0].code != 0
        assert seen[0].cause

    @pytest.mark.parametrize(
        ("variables", "told"),
        [
            ({"image": "eparch-none:1"}, "is not on this machine"),
            ({"image": "localhost:1/none:1", "image_pull_policy": "Always"}, "cannot be reached"),
            ({"image": "localhost:1/none:1", "image_pull_policy": "IfPossible"}, "cannot be reached"),
            ({"image": "localhost:1/none:1", "image_pull_policy": None}, "cannot be reached"),
            ({"command": "no-such-program --now"}, "command of the job is not in the image"),
            ({"networks": ["no-such-network"]}, "network of the job does not exist"),
            ({"networks": ["none", "no-such-network"]}, "network of the job does not exist"),
            ({"volumes": ["/tmp:relative"]}, "volume of the job cannot be mounted"),
            ({"mem_limit": "1k"}, "memory limits of the job are not possible"),
            ({"container_create_kwargs": {"ulimits": [{"no": 1}]}}, "refused"),
        ],
    )
    def test_what_the_engine_refuses_is_told_and_nothing_is_left(
        self, infrastructure, engine, variables, told
    ):
        with pytest.raises(InfrastructureError) as caught:
            self.begin(infrastructure, "exit 0", **variables)
        assert told in caught.value.message
        assert caught.value.fix
        assert engine.client.containers.list(all=True) == []

    def test_if_possible_takes_the_image_that_is_there(self, infrastructure, engine):
        engine.client.images.get(IMAGE).tag("localhost:1/here", tag="1")
        handle = self.begin(
            infrastructure, "exit 0", image="localhost:1/here:1", image_pull_policy="IfPossible"
        )
        assert infrastructure.watch(handle).code == 0

    def test_a_registry_lets_in_whose_credentials_are_its_own(self, infrastructure, engine):
        user, password = "ada", f"pw-{uuid4().hex}"
        with running_registry(user, password) as registry:
            image = f"{registry.address}/small:1"
            own = {"username": user, "password": password, "registry_url": registry.address}

            def begin(**credentials):
                more = {"registry_credentials": credentials} if credentials else {}
                return self.begin(
                    infrastructure, "exit 3", image=image, image_pull_policy="Always",
                    network_mode="none", **more,
                )  # fmt: skip

            for wrong in (
                {},
                {**own, "password": "guessed"},
                {**own, "registry_url": "registry.example.com"},
            ):
                del registry.shown[:]
                with pytest.raises(InfrastructureError, match="does not let you in") as caught:
                    begin(**wrong)
                assert "registry_credentials" in caught.value.fix
                assert password not in str(caught.value) + caught.value.why
                # What is for another registry is not sent here.
                sent = [one for one in registry.shown if one]
                assert bool(sent) is ("guessed" in wrong.get("password", ""))
            assert infrastructure.watch(begin(**own)).code == 3
            engine.client.images.remove(image, force=True)

    def test_a_job_on_another_engine_is_not_taken_for_gone(self, infrastructure):
        handle = f"docker://elsewhere:{'a' * 64}"
        for act in (infrastructure.watch, lambda handle: infrastructure.stop(handle, 0)):
            with pytest.raises(InfrastructureError, match="cannot be reached"):
                act(handle)
        assert "not there" in infrastructure.watch("http+docker://localhost:" + "a" * 64).reason

    def test_an_engine_that_is_not_there_is_told(self, monkeypatch, tmp_path):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
        monkeypatch.setattr(worker_docker, "_STARTING", 0.0)
        with pytest.raises(EngineAway) as caught:
            self.begin(self.make(), "exit 0")
        assert "DOCKER_HOST" in caught.value.fix
        assert f"{tmp_path}/none" in caught.value.why

    def test_a_restart_of_the_engine_is_survived_and_its_end_is_known(self, infrastructure, engine):
        handle = self.begin(infrastructure, "echo before >&2; trap 'exit 9' TERM; sleep 600 & wait")
        seen = []
        thread = threading.Thread(target=lambda: seen.append(infrastructure.watch(handle)))
        thread.start()
        assert next(engine.container(handle).logs(stream=True, follow=True)) == b"before\n"
        engine.restart()
        thread.join(90)
        assert seen
        assert seen[0].code != 0
        assert seen[0].stderr == "before"
        assert infrastructure.watch(self.begin(infrastructure, "exit 0")).code == 0

    # End to end

    def test_a_run_is_run_in_a_container(self, place, engine):
        run = place.run("good", labels={"team": "blue"}, auto_remove=True)
        assert place.worker("--run-once", "--name", "w").wait(90) == 0, place.log()
        stored = place.stored(run)
        assert stored.state is not None
        assert stored.state.is_completed(), place.log()
        assert stored.infrastructure_pid.startswith("docker://")
        wanted = {"logs": {"flow_run_id": {"any_": [str(run.id)]}}}
        lines = [line.message for line in place.client.send(calls.read_logs(body=wanted))]
        assert "from within" in lines
        assert any("is over: exit code 0" in line for line in lines)
        assert "a bare line" in place.log()
        assert engine.client.containers.list(all=True) == []

    def test_a_run_that_needs_too_much_memory_is_crashed_with_the_reason(self, place):
        run = place.run("hungry", mem_limit="160m", memswap_limit="160m")
        assert place.worker("--run-once").wait(90) == 0, place.log()
        state = place.state(run)
        assert state.is_crashed(), place.log()
        assert "memory" in state.message
        assert "160 MiB" in state.message

    def test_an_image_that_is_not_there_is_told_on_the_run(self, place):
        run = place.run("good", image="eparch-none:1")
        assert place.worker("--run-once").wait(60) == 1
        state = place.state(run)
        assert state.is_crashed()
        assert "'eparch-none:1' is not on this machine" in state.message

    def test_a_block_of_credentials_is_read_at_submit_and_told_nowhere(self, place, engine):
        password = f"pw-{uuid4().hex}"
        with running_registry("ada", password) as registry:
            slug = f"docker-registry-credentials-{uuid4().hex[:8]}"
            type_ = place.client.send(calls.create_block_type(body={"name": slug, "slug": slug}))
            schema = place.client.send(
                calls.create_block_schema(
                    body={"block_type_id": type_.id, "fields": {"secret_fields": ["password"]}}
                )
            )
            data = {"username": "ada", "password": password, "registry_url": f"http://{registry.address}"}
            body = {"name": f"b-{uuid4().hex[:8]}", "block_type_id": type_.id, "block_schema_id": schema.id}
            block = place.client.send(calls.create_block_document(body={**body, "data": data}))
            image = f"{registry.address}/small:1"
            run = place.run(
                "good", image=image, image_pull_policy="Always", command="/bin/sh -c 'exit 3'", volumes=[],
                registry_credentials={"$ref": {"block_document_id": str(block.id)}},
            )  # fmt: skip
            assert place.worker("--run-once").wait(90) == 0, place.log()
            state = place.state(run)
            assert state.is_crashed()
            assert "exit code 3" in state.message
            wanted = {"logs": {"flow_run_id": {"any_": [str(run.id)]}}}
            lines = [line.message for line in place.client.send(calls.read_logs(body=wanted))]
            made = engine.container(place.stored(run).infrastructure_pid)
            for told in (place.log(), state.message, str(lines), str(made.attrs), str(place.stored(run))):
                assert password not in told
            made.remove()
            engine.client.images.remove(image, force=True)

    def test_w20_a_cancelled_run_ends_with_its_container(self, place, engine):
        run = place.run("long")
        worker = place.worker("--limit", "1")
        place.begun()
        body = SetState(state=StateCreate(type=StateType.CANCELLING))
        place.client.send(calls.set_flow_run_state(id=run.id, body=body))
        # The slot is free again only when the job is gone: the next run begins then.
        place.run("long")
        place.begun()
        assert place.state(run).is_cancelled(), place.log()
        container = engine.container(place.stored(run).infrastructure_pid)
        assert container.status == "exited"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
        assert engine.client.containers.list() == []

    def test_w17_a_container_outlives_its_worker_and_the_next_one_takes_it_over(self, place, engine):
        run = place.run("long", auto_remove=True)
        first = place.worker("--name", "first")
        place.begun()
        first.kill()
        first.wait()
        second = place.worker("--name", "second", "--run-once")
        with (place.folder / "worker.log").open() as log:
            while "Worker 'second' goes on with" not in log.readline():
                assert second.poll() is None, place.log()
        (place.folder / "pipe").write_text("go on")
        assert second.wait(90) == 0, place.log()
        assert place.state(run).is_completed(), place.log()
        assert "told: go on" in place.log()
        assert engine.client.containers.list(all=True) == []

    def test_w17_a_container_whose_claim_lapsed_is_stopped_by_the_next_worker(self, place, engine):
        place.env["EPARCH_LEASE_SECONDS"] = "6"
        run = place.run("long")
        first = place.worker("--name", "first")
        place.begun()
        first.kill()
        first.wait()
        until(lambda: place.state(run).is_final(), 120)
        assert "stopped renewing" in place.state(run).message
        container = engine.container(place.stored(run).infrastructure_pid)
        assert container.status == "running"
        second = place.worker("--name", "second")
        container.wait(timeout=120)
        assert "which the flow run" in place.log()
        assert place.state(run).is_crashed()
        second.send_signal(signal.SIGTERM)
        assert second.wait(60) == 0, place.log()
        assert engine.client.containers.list() == []
