"""What a cluster does to Jobs, and what is made of it: refusals, breaks, ends, workers that are gone."""

import itertools
import json
import threading
import time
from pathlib import Path

import pytest

from eparch.core.errors import InfrastructureError
from eparch.core.job_templates import Layer, render_job
from eparch.testing.kubernetes import FakeCluster
from eparch.testing.kubernetes_objects import Key, Refused
from eparch.workers import kubernetes as worker_kubernetes
from eparch.workers.kubernetes import KubernetesInfrastructure
from eparch.workers.kubernetes_cluster import Cluster
from eparch.workers.kubernetes_faults import ClusterAway
from eparch.workers.kubernetes_holding import Holder
from eparch.workers.kubernetes_pods import Patience, Waiting

LABELS = {"prefect.io/work-pool-id": "p1", "prefect.io/flow-run-id": "r1"}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    with FakeCluster(tmp_path, ["default", "team"]) as cluster:
        monkeypatch.setenv("KUBECONFIG", str(cluster.write_kubeconfig(tmp_path)))
        yield cluster


@pytest.fixture
def make(cluster):
    made = []

    def make() -> KubernetesInfrastructure:
        made.append(KubernetesInfrastructure())
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def infrastructure(make):
    return make()


def configured(script="exit 0", change=None, **values):
    """A job that runs a shell script."""
    values = {"image": "flows:1", "command": "unset", **values}
    job, _ = render_job(KubernetesInfrastructure.base_job_template, [Layer(name="run", values=values)])
    job["job_manifest"]["spec"]["template"]["spec"]["containers"][0]["args"] = ["/bin/sh", "-c", script]
    if change is not None:
        change(job["job_manifest"])
    return KubernetesInfrastructure().render({**job, "name": "job", "labels": LABELS})


def begin(infrastructure, *args, recorded=lambda handle: None, **values) -> str:
    return infrastructure.start(configured(*args, **values), recorded)


def pass_time(infrastructure, cluster, key):
    """Let much time pass for whoever waits for a Job, and wake them."""
    infrastructure._clock = lambda: time.monotonic() + 1000
    cluster.objects.change(key, lambda found: found["metadata"].setdefault("annotations", {}).update(t="1"))


def job_key(handle):
    return Key("jobs", "default", handle.rpartition(":")[2])


def watching(infrastructure, handle):
    """The exit of a job, in a list, once the thread is over."""
    seen = []
    thread = threading.Thread(target=lambda: seen.append(infrastructure.watch(handle)), daemon=True)
    thread.start()
    return thread, seen


# Exactly once


def test_w22_nothing_runs_before_the_handle_is_recorded(infrastructure, cluster):
    seen = []

    def look(handle):
        (job,) = cluster.jobs()
        seen.append((job["spec"]["suspend"], cluster.pods(), handle.endswith(job["metadata"]["name"])))

    handle = begin(infrastructure, recorded=look)
    assert seen == [(True, [], True)]
    assert infrastructure.watch(handle).code == 0


def test_w15_a_request_whose_answer_was_lost_makes_one_job(infrastructure, cluster):
    cluster.lost_answers = ["create jobs", "patch jobs", "create leases"]
    handle = begin(infrastructure)
    assert cluster.lost_answers == []
    assert infrastructure.watch(handle).code == 0
    assert len(cluster.jobs()) == len(cluster.pods()) == 1


def test_w15_a_start_that_never_hears_whether_there_is_a_job_leaves_none(
    infrastructure, cluster, monkeypatch
):
    assert infrastructure.watch(begin(infrastructure)).code == 0
    monkeypatch.setattr(worker_kubernetes, "_STARTING", 0.3)
    cluster.lost_answers = ["create jobs"] + ["get jobs"] * 99
    with pytest.raises(ClusterAway):
        begin(infrastructure)
    assert len(cluster.jobs()) == len(cluster.pods()) == 1
    assert "create jobs" not in cluster.lost_answers


def test_w16_a_job_that_was_never_let_go_is_deleted_by_the_next_worker(make, cluster, monkeypatch):
    first, handles = make(), []

    def die(handle):
        handles.append(handle)
        first.close()
        raise SystemExit

    with monkeypatch.context() as patched:
        # A process that dies cleans nothing up.
        patched.setattr(Cluster, "remove", lambda *args: None)
        with pytest.raises(SystemExit):
            first.start(configured("sleep 600"), die)
    second = make()
    assert second.find(LABELS) == handles
    assert second.adopt(handles[0])
    assert "never let go" in second.watch(handles[0]).reason
    assert cluster.jobs() == cluster.pods() == []


def test_w20_a_job_that_is_stopped_before_it_is_let_go_does_not_begin(infrastructure, cluster):
    with pytest.raises(InfrastructureError, match="deleted before it began"):
        begin(infrastructure, recorded=lambda handle: infrastructure.stop(handle, 0))
    assert cluster.jobs() == cluster.pods() == []


# Watching


def test_w19_watches_and_logs_that_break_go_on_and_lose_nothing(infrastructure, cluster, capfd, tmp_path):
    gate = tmp_path / "gate"
    script = f"echo one; while [ ! -e {gate} ]; do sleep 0.05; done; echo two; echo three"
    handle = begin(infrastructure, script)
    thread, seen = watching(infrastructure, handle)
    pod = cluster.wait_for_pod()
    log = cluster.kubelet.logs[pod.name]
    with log.changed:
        assert log.changed.wait_for(lambda: log.lines, 60)
    cluster.objects.forget()
    cluster.drop_connections()
    gate.touch()
    thread.join(60)
    assert seen[0].code == 0
    said = capfd.readouterr().err.splitlines()
    assert [line for line in said if line in ("one", "two", "three")] == ["one", "two", "three"]


def test_w19_an_api_that_is_away_is_waited_for_and_forgotten_changes_are_listed(infrastructure, cluster):
    handle = begin(infrastructure, "sleep 0.3; exit 4")
    cluster.is_away = True
    cluster.drop_connections()
    pod = cluster.wait_for_pod("Failed")
    cluster.objects.forget()
    cluster.is_away = False
    assert infrastructure.watch(handle).code == 4
    assert cluster.objects.is_there(pod)


def test_w19_one_watch_serves_many_jobs(infrastructure, cluster):
    handles = [begin(infrastructure, f"exit {code}") for code in range(6)]
    ends = [watching(infrastructure, handle) for handle in handles]
    for thread, _ in ends:
        thread.join(60)
    assert [seen[0].code for _, seen in ends] == list(range(6))
    assert cluster.requests.count("watch jobs") == cluster.requests.count("watch pods") == 1
    assert cluster.requests.count("get jobs") == len(handles)
    # What is over is not kept, however much of it there is in the namespace.
    namespace = infrastructure._known()[0].namespace("default", "p1")
    for watch in namespace._watches:
        watch._list()
    assert namespace._all == {"jobs": {}, "pods": {}}


# Why a job waits


@pytest.fixture
def told(infrastructure):
    reasons = []
    heard = threading.Event()

    def hear(handle, reason):
        reasons.append((handle, reason))
        heard.set()

    infrastructure.on_waiting = hear
    return reasons, heard


def test_w21_a_pod_without_a_node_waits_and_says_why(infrastructure, cluster, told):
    cluster.kubelet.no_room = "0/1 nodes are available: 1 Insufficient memory."
    handle = begin(infrastructure)
    thread, seen = watching(infrastructure, handle)
    reasons, heard = told
    assert heard.wait(60)
    pass_time(infrastructure, cluster, cluster.wait_for_pod("Pending"))
    cluster.kubelet.no_room = ""
    thread.join(60)
    assert seen[0].code == 0
    assert reasons == [(handle, "Unschedulable: 0/1 nodes are available: 1 Insufficient memory")]


def broken_secret(manifest):
    secret = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "api", "key": "k"}}}
    manifest["spec"]["template"]["spec"]["containers"][0]["env"] = [secret]


@pytest.mark.parametrize(
    ("image", "change", "reason"),
    [
        ("gone:1", None, 'ImagePullBackOff: Back-off pulling image "gone:1": not found'),
        ("-bad:1", None, "InvalidImageName: couldn't parse image name"),
        ("flows:1", broken_secret, 'CreateContainerConfigError: secret "api" not found'),
    ],
)
def test_w21_a_pod_that_cannot_start_says_why_and_ends(infrastructure, cluster, told, image, change, reason):
    cluster.kubelet.missing_images.add("gone:1")
    handle = begin(infrastructure, "exit 0", change, image=image)
    thread, seen = watching(infrastructure, handle)
    reasons, heard = told
    assert heard.wait(60)
    pass_time(infrastructure, cluster, cluster.wait_for_pod("Pending"))
    thread.join(60)
    assert seen[0].code is None
    assert seen[0].reason.startswith(f"its pod did not start within 60 seconds: {reason}")
    assert reasons[0][1].startswith(reason)
    assert cluster.jobs() == cluster.pods() == []


def test_w21_a_secret_that_is_there_is_given_to_the_job(infrastructure, cluster, capfd):
    cluster.kubelet.secrets["default", "api"] = {"k": "from the secret"}
    handle = begin(infrastructure, "echo $KEY", broken_secret)
    assert infrastructure.watch(handle).code == 0
    assert "from the secret" in capfd.readouterr().err


def ended_by_quota(infrastructure, cluster):
    """The exit of a job that gets no pod."""
    cluster.kubelet.quota = 'pods "job" is forbidden: exceeded quota: small, requested: pods=1'
    handle = begin(infrastructure)
    with cluster.objects.changed:
        assert cluster.objects.changed.wait_for(lambda: cluster.objects.find("events", "default"), 60)
    # Each look at the clock is a minute later than the one before.
    clock, infrastructure._clock = infrastructure._clock, itertools.count(0.0, 61.0).__next__
    seen = infrastructure.watch(handle)
    infrastructure._clock, cluster.kubelet.quota = clock, ""
    return seen


def test_w21_a_job_without_a_pod_says_what_the_cluster_says(infrastructure, cluster):
    seen = ended_by_quota(infrastructure, cluster)
    assert seen.reason.startswith("no pod was made for it within 60 seconds: pods")
    assert "exceeded quota: small" in seen.reason


def test_w21_only_what_does_not_pass_by_waiting_ends_a_job():
    patience, waits = Patience(60, None), Waiting("Unschedulable", "no room", False)
    assert patience.end_of(0, None, [], None) == patience.end_of(59, None, [], None) == ""
    assert patience.pause(59) == 1
    assert patience.end_of(60, None, [], None) == "no pod was made for it within 60 seconds"
    pod = {"metadata": {}}
    assert patience.end_of(61, None, [pod], waits) == patience.end_of(9999, None, [pod], waits) == ""
    assert patience.pause(9999) == float("inf")
    broken = Waiting("ImagePullBackOff", "", True)
    assert patience.end_of(10000, None, [pod], broken) == patience.end_of(10059, None, [pod], broken) == ""
    assert "ImagePullBackOff" in patience.end_of(10060, None, [pod], broken)
    queued = {"spec": {"suspend": True}}
    assert patience.end_of(20000, queued, [], None) == patience.end_of(30000, queued, [], None) == ""
    assert Patience(60, 10).end_of(0, None, [pod], None) == ""


# How a job ends


@pytest.mark.parametrize(
    ("status", "container", "reason"),
    [
        ({}, "OOMKilled", "it ran out of memory (exit code 137, its memory limit is 64Mi)"),
        ({"reason": "Evicted", "message": "low on memory."}, "Error", "its pod was evicted: low on memory"),
        ({"reason": "NodeLost"}, "Error", "the node of its pod was lost"),
        (
            {
                "conditions": [
                    {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
                ]
            },
            "Error",
            "its pod was preempted by one that is more important",
        ),
    ],
)
def test_w17_a_pod_that_the_cluster_ends_says_why(infrastructure, cluster, status, container, reason):
    handle = begin(infrastructure, "sleep 600", memory_limit="64Mi")
    cluster.kubelet.end(cluster.wait_for_pod(), status, reason=container)
    seen = infrastructure.watch(handle)
    assert (seen.code, seen.reason) == (137, reason)
    assert infrastructure.find(LABELS) == []


def test_w17_a_job_that_somebody_deletes_is_over(infrastructure, cluster):
    handle = begin(infrastructure, "sleep 600")
    thread, seen = watching(infrastructure, handle)
    pod = cluster.wait_for_pod()
    cluster.wait_for_request("get pods/log")
    cluster.objects.remove(job_key(handle))
    cluster.kubelet.delete_pod(pod, 1)
    thread.join(60)
    assert seen[0].reason == "its Job was deleted while it ran"


def test_w17_a_job_may_run_only_so_long(infrastructure, cluster):
    seen = infrastructure.watch(begin(infrastructure, "sleep 600", job_watch_timeout_seconds=1))
    assert seen.reason == "it ran longer than 1 seconds (job_watch_timeout_seconds)"
    assert cluster.jobs() == cluster.pods() == []


def test_w17_another_pod_is_tried_as_often_as_the_backoff_limit_says(infrastructure, cluster, tmp_path):
    script = f"echo x >> {tmp_path}/tries; [ $(wc -l < {tmp_path}/tries) = 3 ]"
    assert infrastructure.watch(begin(infrastructure, script, backoff_limit=2)).code == 0
    assert len(cluster.pods()) == 3


def test_w20_a_pod_that_does_not_go_is_an_error_for_people(infrastructure, cluster, monkeypatch):
    monkeypatch.setattr(worker_kubernetes, "_KILLED", 0.5)
    handle = begin(infrastructure, "sleep 600")
    pod = cluster.wait_for_pod()
    cluster.kubelet.stuck = True
    with pytest.raises(InfrastructureError, match="does not end") as caught:
        infrastructure.stop(handle, 0)
    assert pod.name in caught.value.why
    assert "kubectl -n default describe pods" in caught.value.fix


# Who may take over


def aged(seconds):
    """A worker on another machine, whose clock stands still but for ``seconds``."""
    times = iter([0.0, seconds])
    holder = Holder(clock=lambda: next(times))
    holder.host = "another machine"
    return holder


@pytest.mark.parametrize(("seconds", "gone"), [(9.0, False), (11.0, True)])
def test_w16_a_worker_of_another_machine_is_gone_when_its_lease_is_not_renewed(
    infrastructure, cluster, seconds, gone
):
    begin(infrastructure, "sleep 600")
    (job,) = cluster.jobs()
    (lease,) = cluster.objects.find("leases", "default")
    assert lease["spec"]["leaseDurationSeconds"] == 10
    api = infrastructure._known()[0].api
    other = aged(seconds)
    infrastructure._holder._over.set()
    infrastructure._holder._thread.join(60)
    assert not other.is_gone(api, job)
    assert other.is_gone(api, job) is gone


def test_w16_a_worker_that_closed_is_gone_at_once_and_one_successor_has_the_job(make, cluster):
    first, second, third = make(), make(), make()
    second._holder.host = third._holder.host = "another machine"
    handle = begin(first, "sleep 600")
    assert not second.adopt(handle)
    first.close()
    barrier, had = threading.Barrier(2), []

    def adopt(infrastructure):
        barrier.wait(60)
        had.append(infrastructure.adopt(handle))

    threads = [threading.Thread(target=adopt, args=(one,)) for one in (second, third)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(had) == [False, True]


def test_w16_without_leases_only_a_worker_of_the_same_machine_takes_over(make, cluster):
    roles = rules_of("Role")
    cluster.rules = [rule for rule in roles if "leases" not in rule["resources"]]
    first, second, third = make(), make(), make()
    second._holder.host = "another machine"
    handle = begin(first, "sleep 600")
    first.close()
    assert not second.adopt(handle)
    assert third.adopt(handle)


# What is refused


def test_a_job_of_a_manifest_that_the_cluster_refuses_names_its_fields(infrastructure, cluster):
    def change(manifest):
        manifest["spec"]["template"]["spec"]["restartPolicy"] = "Always"

    with pytest.raises(InfrastructureError) as caught:
        begin(infrastructure, "exit 0", change)
    assert caught.value.message == "The Kubernetes API does not take the Job"
    assert caught.value.why.startswith("spec.template.spec.restartPolicy: Required value")
    with pytest.raises(InfrastructureError, match="does not take the Job") as caught:
        begin(infrastructure, "exit 0", lambda manifest: manifest["spec"].update(backoffLimit="two"))
    assert "cannot unmarshal string" in caught.value.why
    assert cluster.jobs() == []


def test_a_namespace_that_is_not_there_is_named(infrastructure):
    with pytest.raises(InfrastructureError) as caught:
        begin(infrastructure, namespace="teem")
    assert caught.value.message == "There is no namespace 'teem' in the cluster"
    assert "kubectl create namespace teem" in caught.value.fix


def test_a_name_that_is_taken_is_an_error_for_people(infrastructure, cluster):
    config = configured("exit 0", lambda manifest: manifest.update(metadata={"name": "same"}))
    assert infrastructure.watch(infrastructure.start(config, lambda handle: None)).code == 0
    with pytest.raises(InfrastructureError, match="There is a Job 'same'") as caught:
        infrastructure.start(config, lambda handle: None)
    assert "generateName" in caught.value.fix
    assert len(cluster.jobs()) == 1


@pytest.mark.parametrize(("verb", "resource"), [("create", "jobs"), ("list", "jobs"), ("list", "pods")])
def test_a_right_that_is_missing_is_named(infrastructure, cluster, verb, resource):
    cluster.rules = [
        {**rule, "verbs": [one for one in rule["verbs"] if (one, resource) != (verb, rule["resources"][0])]}
        for rule in rules_of("Role")
    ]
    with pytest.raises(InfrastructureError) as caught:
        begin(infrastructure)
    worker = "system:serviceaccount:default:worker"
    assert caught.value.message == f"'{worker}' may not {verb} {resource} in the namespace 'default'"
    assert f'resources: ["{resource}"], verbs: ["{verb}"]' in caught.value.fix
    assert cluster.jobs() == []


def test_an_api_that_is_not_there_is_named(tmp_path, monkeypatch, cluster):
    config = cluster.kubeconfig
    config["clusters"][0]["cluster"]["server"] = "http://127.0.0.1:1"
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setattr(worker_kubernetes, "_STARTING", 0.0)
    with pytest.raises(InfrastructureError) as caught:
        begin(KubernetesInfrastructure())
    assert caught.value.message == "The Kubernetes API at http://127.0.0.1:1 cannot be reached"
    assert caught.value.why == "connection refused"


# What a worker needs


def rules_of(kind):
    """The rules that docs/kubernetes.md gives to a worker."""
    from ruamel.yaml import YAML

    text = (Path(__file__).parents[2] / "docs" / "kubernetes.md").read_text()
    blocks = [part.partition("```")[0] for part in text.split("```yaml\n")[1:]]
    found = [one for block in blocks for one in YAML(typ="safe").load_all(block) if one["kind"] == kind]
    return [rule for one in found for rule in one["rules"]]


def granted(kind, *, in_namespace):
    return {
        (verb, group, resource, in_namespace)
        for rule in rules_of(kind)
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_the_rules_of_the_guide_grant_exactly_what_is_used(make, cluster, monkeypatch):
    cluster.rules, cluster.cluster_rules = rules_of("Role"), rules_of("ClusterRole")
    first = make()
    monkeypatch.setattr(first._holder, "host", "another machine")
    assert "exceeded quota" in ended_by_quota(first, cluster).reason
    handle = begin(first, "sleep 600")
    second = make()
    assert not second.adopt(handle)
    with cluster.objects.changed:
        renewals = cluster.requests.count("patch leases")
    first._holder._write(first._known()[0].api, "default", 10, is_new=False)
    assert cluster.requests.count("patch leases") > renewals
    first.close()
    assert second.find(LABELS) == [handle]
    assert second.adopt(handle)
    cluster.wait_for_pod()
    second.stop(handle, 1)
    assert second.watch(handle).code != 0
    done = begin(second)
    assert second.watch(done).code == 0
    wanted = granted("Role", in_namespace=True) | granted("ClusterRole", in_namespace=False)
    assert {tuple(used) for used in cluster.used} == wanted


def test_a_fake_cluster_refuses_what_a_real_one_does(cluster):
    objects = cluster.objects
    with pytest.raises(Refused, match="not found"):
        objects.get(Key("jobs", "default", "x"))
    with pytest.raises(Refused, match="RFC 1123"):
        objects.create(Key("pods", "default", "No Name"), {"metadata": {}})
    with pytest.raises(Refused, match="label"):
        objects.create(Key("pods", "default", "x"), {"metadata": {"labels": {"a": "b c"}}})
