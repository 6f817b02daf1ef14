"""``deploy`` from a folder of files to what a server is sent (rows D4 to D12, D14, D18, P5, P9, P21)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.deploy.shelf import TEMPLATE, TWO, Folder, Shelf, labels

from eparch import settings
from eparch.core.automation_actions import RunDeployment
from eparch.core.automations import CompoundTrigger, EventTrigger
from eparch.core.calls import Call
from eparch.core.errors import (
    Conflict,
    EparchError,
    NotFound,
    SourceErrors,
    Unreachable,
    Usage,
)
from eparch.core.model import new_id
from eparch.core.pools import Worker, WorkerStatus
from eparch.deploy.origin import CodeOrigin, inferred_version


def test_d5_a_flow_is_read_and_never_imported(folder: Folder) -> None:
    result = folder.deploy(TWO, all=True)
    assert labels(result) == ["daily-report/nightly", "clean/tidy"]
    made = folder.server.named("nightly")
    assert made.description == "Reports on a day."
    assert set((made.parameter_openapi_schema or {})["properties"]) == {"day", "pages"}
    assert (made.entrypoint, made.parameters) == ("flows.py:report", {"pages": 2})
    assert made.job_variables == {"env": {"A": "1"}, "memory": 5}
    assert made.schedules[0].schedule["cron"] == "0 3 * * *"


def test_a_second_time_nothing_is_sent_that_changes_anything(folder: Folder) -> None:
    first = folder.deploy(TWO, all=True)
    folder.server.calls.clear()
    again = folder.deploy(all=True)
    assert [one.action for one in again.deployments] == ["unchanged", "unchanged"]
    assert [one.id for one in again.deployments] == [one.id for one in first.deployments]
    assert "POST /deployments/" not in folder.server.calls
    assert "POST /flows/" not in folder.server.calls


def test_no_request_is_sent_that_is_not_needed(folder: Folder) -> None:
    many = "".join(
        f"\n  - {{name: d{n}, entrypoint: 'flows.py:clean', work_pool: {{name: local}}}}" for n in range(9)
    )
    folder.deploy("deployments:" + many, all=True)
    counts = {call: folder.server.calls.count(call) for call in folder.server.calls}
    assert counts == {
        "GET /eparch": 1,
        "POST /work_pools/filter": 1,
        "POST /flows/filter": 1,
        "POST /flows/": 1,
        "POST /deployments/": 9,
        "POST /work_pools/local/workers/filter": 1,
    }


def test_a_plan_changes_nothing_and_says_each_field(folder: Folder) -> None:
    folder.deploy(TWO, all=True)
    folder.server.calls.clear()
    result = folder.deploy(all=True, plan_only=True, tags=("x",))
    assert [(one.action, one.changes) for one in result.deployments] == [
        ("change", {"tags": [[], ["x"]]}),
        ("change", {"tags": [[], ["x"]]}),
    ]
    assert result.differs
    assert not any(call.endswith(("/flows/", "/deployments/")) for call in folder.server.calls)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("tidy",), ["clean/tidy"]),
        (("n*", "tidy"), ["daily-report/nightly", "clean/tidy"]),
        (("daily-report/*",), ["daily-report/nightly"]),
        (("clean/tidy",), ["clean/tidy"]),
        (("*/*",), ["daily-report/nightly", "clean/tidy"]),
    ],
)
def test_d6_names_globs_and_real_flow_names(folder: Folder, names: Any, found: list[str]) -> None:
    assert labels(folder.deploy(TWO, names=names)) == found


@pytest.mark.parametrize(
    ("names", "fix"), [(("nihgtly",), "'nightly'"), (("report/nightly",), "'daily-report/nightly'")]
)
def test_d6_a_name_that_is_not_there_suggests_the_nearest(folder: Folder, names: Any, fix: str) -> None:
    with pytest.raises(NotFound) as caught:
        folder.deploy(TWO, names=names)
    assert fix in caught.value.fix
    assert "tidy" in caught.value.why


def test_d4_several_deployments_and_no_name_is_an_error_that_names_the_flag(folder: Folder) -> None:
    with pytest.raises(Usage) as caught:
        folder.deploy(TWO)
    assert "--name" in caught.value.fix
    assert "--all" in caught.value.fix


def test_the_only_deployment_needs_no_name(folder: Folder) -> None:
    only = TWO[: TWO.index("  - name: tidy")]
    assert labels(folder.deploy(only)) == ["daily-report/nightly"]


def test_d6_an_entrypoint_finds_its_deployment_in_the_file(folder: Folder) -> None:
    result = folder.deploy(TWO, entrypoint="./flows.py:report")
    assert labels(result) == ["daily-report/nightly"]
    assert folder.server.named("nightly").parameters == {"pages": 2}


def test_flags_alone_are_enough_without_a_file(folder: Folder) -> None:
    result = folder.deploy(
        entrypoint="flows.py:report",
        names=("adhoc",),
        pool="local",
        schedules=({"cron": "0 3 * * *", "timezone": "Europe/Athens"},),
        job_variables={"env.A": "1"},
        parameters={"pages": 3},
        concurrency_limit=2,
        collision_strategy="CANCEL_NEW",
    )
    assert labels(result) == ["daily-report/adhoc"]
    made = folder.server.named("adhoc")
    assert made.schedules[0].schedule["timezone"] == "Europe/Athens"
    assert (made.concurrency_limit, made.parameters) == (2, {"pages": 3})
    assert made.concurrency_options is not None
    assert made.concurrency_options.collision_strategy == "CANCEL_NEW"


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        ({}, "prefect.yaml"),
        ({"entrypoint": "flows.py:report"}, "name"),
        ({"entrypoint": "flows.py:report", "names": ("a", "b")}, "one"),
        ({"entrypoint": "flows.py:report", "all": True}, "--all"),
        ({"all": True, "names": ("a",)}, "--all"),
        ({"entrypoint": "flows.py:report", "names": ("a",), "triggers": ({"expct": ["a"]},)}, "--trigger"),
        ({"entrypoint": "flows.py:report", "names": ("a",), "sla": ({"name": "x"},)}, "--sla"),
        ({"entrypoint": "flows.py:report", "names": ("a",), "version_type": "git"}, "--version-type"),
        ({"entrypoint": "flows.py:report", "names": ("a",), "collision_strategy": "ENQUEUE"}, "--coll"),
        ({"entrypoint": "flows.py:report", "names": ("a",), "queue": "high"}, "queue"),
        ({"entrypoint": "flows.py:report", "names": ("a",), "job_variables": {"x": 1}}, "variables"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_sent(
    folder: Folder, request_: dict[str, Any], word: str
) -> None:
    with pytest.raises(Usage) as caught:
        folder.deploy(**request_)
    assert word in caught.value.message
    assert caught.value.fix
    assert folder.server.calls == []


def test_d7_flags_apply_to_all_that_are_selected_and_maps_merge(folder: Folder) -> None:
    folder.deploy(
        TWO, all=True, job_variables={"image": "i", "env": {"B": "2"}, "env.A": "9"}, tags=("t",), version="7"
    )
    nightly, tidy = folder.server.named("nightly"), folder.server.named("tidy")
    assert nightly.job_variables == {"env": {"A": "9", "B": "2"}, "memory": 5, "image": "i"}
    assert tidy.job_variables["image"] == "i"
    assert (nightly.version, tidy.version, nightly.tags, tidy.tags) == ("7", "7", ["t"], ["t"])


def test_d7_parameters_merge_and_a_schedule_of_the_flags_replaces(folder: Folder) -> None:
    folder.deploy(
        TWO,
        names=("nightly",),
        parameters={"day": "monday"},
        schedules=({"interval": 60.0, "timezone": "UTC"}, {"rrule": "FREQ=DAILY"}),
    )
    made = folder.server.named("nightly")
    assert made.parameters == {"pages": 2, "day": "monday"}
    assert [s.schedule.get("interval") for s in made.schedules] == [60.0, None]


BROKEN = """
deployments:
  - name: good
    entrypoint: flows.py:clean
    work_pool: {name: local}
  - name: bad
    entrypoint: flows.py:reprot
    work_pool: {name: locla}
  - name: worse
    entrypoint: flows.py:report
    parameters:
      pages: many
      pgaes: 1
    work_pool:
      name: local
      job_variables:
        memroy: 5
        env: {A: "{{ $NOT_SET_ANYWHERE }}"}
        memory: much
"""


def test_d11_all_mistakes_are_told_at_once_with_their_places_and_nothing_is_sent(folder: Folder) -> None:
    text = BROKEN.replace('        env: {A: "{{ $NOT_SET_ANYWHERE }}"}\n', "")
    found = folder.errors(text, all=True)
    assert [(error.line, error.column) for error in found if error.file.endswith("prefect.yaml")] == [
        (7, 17),
        (8, 23),
        (12, 14),
        (13, 7),
        (17, 9),
        (18, 17),
    ]
    fixes = " ".join(error.fix for error in found)
    assert "'report'" in fixes
    assert "'local'" in fixes
    assert "eparch work-pool create locla" in fixes
    assert "'memory'" in fixes


def test_d11_only_what_is_selected_has_to_be_good(folder: Folder) -> None:
    assert labels(folder.deploy(BROKEN, names=("good",))) == ["clean/good"]


def test_d9_a_placeholder_that_stands_for_nothing_is_refused_with_its_place(folder: Folder) -> None:
    [error] = folder.errors(BROKEN, names=("worse",))
    assert (error.line, error.column) == (18, 19)
    assert "NOT_SET_ANYWHERE" in error.message


def test_d9_the_environment_fills_in_values_also_the_name(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAGE", "prod")
    text = TWO.replace("name: nightly", 'name: "nightly-{{ $STAGE }}"')
    assert labels(folder.deploy(text, names=("nightly-prod",))) == ["daily-report/nightly-prod"]


@pytest.mark.parametrize(
    ("source", "line", "column", "words"),
    [
        ("from prefect import flow\n@flow\ndef report(:\n", 3, 12, "not valid Python"),
        ("def report():\n    pass\n", 1, 1, "not a flow"),
    ],
)
def test_a_flow_file_that_cannot_be_used_is_told_with_its_own_place(
    folder: Folder, source: str, line: int, column: int, words: str
) -> None:
    folder.write("flows.py", source)
    [error] = folder.errors(TWO, names=("nightly",))
    assert (error.file, error.line, error.column) == ("flows.py", line, column)
    assert words in error.message


def test_a_missing_flow_file_is_told_at_the_entrypoint(folder: Folder) -> None:
    [error] = folder.errors(TWO.replace("flows.py:report", "flow.py:report"), names=("nightly",))
    assert (Path(error.file).name, error.line, error.column) == ("prefect.yaml", 4, 17)
    assert "flows.py" in error.fix


@pytest.mark.parametrize(
    ("item", "word"),
    [("entrypoint: flows.py:clean", "no name"), ("name: tidy", "no entrypoint")],
)
def test_a_deployment_without_name_or_entrypoint_is_refused(folder: Folder, item: str, word: str) -> None:
    [error] = folder.errors(f"deployments:\n  - {item}\n    work_pool: {{name: local}}\n", all=True)
    assert word in error.message
    assert (error.line, error.column) == (2, 5)


def test_two_deployments_that_become_one_are_refused(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAGE", "tidy")
    text = TWO + '  - name: "{{ $STAGE }}"\n    entrypoint: flows.py:clean\n'
    [error] = folder.errors(text, all=True)
    assert "clean/tidy" in error.message
    assert error.line == 13


def test_p5_an_unknown_job_variable_of_a_flag_is_refused_without_a_place(folder: Folder) -> None:
    with pytest.raises(Usage, match="'memroy'") as caught:
        folder.deploy(TWO, names=("tidy",), job_variables={"memroy": 1})
    assert "memory" in caught.value.fix


def test_p9_a_required_variable_that_nobody_gives_is_noted(folder: Folder) -> None:
    variables = {**TEMPLATE["variables"], "required": ["image"]}
    folder.server.add_pool("strict", base_job_template={**TEMPLATE, "variables": variables})
    folder.deploy(TWO, names=("tidy",), pool="strict")
    assert any("'image'" in text for text in folder.told)
    folder.told.clear()
    folder.deploy(TWO, names=("tidy",), pool="strict", job_variables={"image": "i"})
    assert not any("Every run" in text for text in folder.told)


def test_parameters_are_not_checked_where_the_schema_is_not_enforced(folder: Folder) -> None:
    folder.deploy(TWO, names=("tidy",), parameters={"x": 1}, enforce_parameter_schema=False)
    assert folder.server.named("tidy").parameters == {"x": 1}
    assert folder.server.named("tidy").enforce_parameter_schema is False


def test_a_missing_pool_of_a_flag_is_not_found(folder: Folder) -> None:
    with pytest.raises(NotFound) as caught:
        folder.deploy(TWO, all=True, pool="locla")
    assert "'local'" in caught.value.fix


def test_the_default_pool_is_of_the_settings_and_none_means_served(folder: Folder) -> None:
    text = "deployments:\n  - {name: a, entrypoint: 'flows.py:clean'}\n"
    result = folder.deploy(text)
    assert folder.server.named("a").work_pool_name is None
    assert result.hints == []
    environ = {"EPARCH_HOME": str(folder.path), "EPARCH_DEFAULT_WORK_POOL": "local"}
    folder.settings = settings.load(environ, folder.path)
    folder.deploy(text)
    assert folder.server.named("a").work_pool_name == "local"


def test_a_pool_for_agents_is_refused(folder: Folder) -> None:
    folder.server.add_pool("old", type="prefect-agent")
    with pytest.raises(Usage, match="agents"):
        folder.deploy(TWO, names=("tidy",), pool="old")


class Away(Shelf):
    """A server that cannot be reached."""

    def send(self, call: Call[Any]) -> Any:
        raise Unreachable("Nobody is there.")


def test_a_server_that_is_away_does_not_hide_mistakes_of_the_file(folder: Folder) -> None:
    folder.server = Away()
    assert len(folder.errors(TWO.replace("pages: 2", "pags: 2"), all=True)) == 1
    with pytest.raises(Unreachable):
        folder.deploy(TWO, all=True)


def test_d12_a_refusal_in_the_middle_says_what_was_applied_and_what_not(folder: Folder) -> None:
    folder.server.refused = {"tidy": Conflict("It is taken.")}
    with pytest.raises(Conflict) as caught:
        folder.deploy(TWO + "  - {name: last, entrypoint: 'flows.py:clean'}\n", all=True)
    assert "'clean/tidy' could not be deployed: It is taken." in caught.value.message
    assert "applied: daily-report/nightly; not applied: clean/tidy, clean/last" in caught.value.why
    folder.server.refused = {}
    assert [one.action for one in folder.deploy(all=True).deployments] == ["unchanged", "created", "created"]


def test_d12_a_refusal_of_the_first_says_that_nothing_was_applied(folder: Folder) -> None:
    folder.server.refused = {"nightly": EparchError("No.")}
    with pytest.raises(EparchError) as caught:
        folder.deploy(TWO, all=True)
    assert caught.value.why == "Nothing was applied."


def test_d14_schedules_that_are_not_in_the_file_stay(folder: Folder) -> None:
    folder.deploy(TWO, names=("nightly",))
    folder.deploy(TWO.replace('    schedules: [{cron: "0 3 * * *"}]\n', ""), names=("nightly",), version="2")
    assert len(folder.server.named("nightly").schedules) == 1
    folder.deploy(TWO.replace('[{cron: "0 3 * * *"}]', "[]"), names=("nightly",))
    assert folder.server.named("nightly").schedules == []


def test_d18_a_worker_is_asked_for_only_when_none_is_online(folder: Folder) -> None:
    hints = " ".join(folder.deploy(TWO, all=True).hints)
    assert "eparch worker start --pool local" in hints
    assert "eparch deployment run 'daily-report/nightly'" in hints
    pool = folder.server.pools["local"]
    folder.server.workers = [Worker(id=new_id(), name="w", work_pool_id=pool.id, status=WorkerStatus.ONLINE)]
    assert "worker start" not in " ".join(folder.deploy(all=True).hints)


def test_p21_a_push_pool_needs_no_worker(folder: Folder) -> None:
    folder.server.add_pool("cloud", type="ecs:push")
    assert "worker start" not in " ".join(folder.deploy(TWO, all=True, pool="cloud").hints)


def test_d7_triggers_of_the_flags_replace_those_of_the_file(folder: Folder) -> None:
    text = TWO + "    triggers: [{expect: [a]}]\n"
    flags = {"triggers": ({"expect": "b", "match": {"x": "y"}},), "version_type": "prefect:simple"}
    folder.deploy(text, names=("tidy", "nightly"), **flags)
    triggers = [one.trigger for _, one in folder.server.automations]
    assert [one.expect for one in triggers if isinstance(one, EventTrigger)] == [["b"], ["b"]]


def test_a_version_that_git_knows_is_the_short_commit() -> None:
    origin = CodeOrigin("github.com/x/y", "0123456789abcdef-dirty")
    assert inferred_version(None, "vcs:git", origin) == "01234567-dirty"
    assert inferred_version("7", "vcs:git", origin) == "7"
    assert inferred_version(None, "prefect:simple", origin) is None
    assert inferred_version(None, None, origin) is None
    assert inferred_version(None, "vcs:github", CodeOrigin(None, None)) is None


def test_lenient_tells_unknown_keys_and_deploys(folder: Folder) -> None:
    folder.deploy(TWO + "    schedulez: []\n", all=True, lenient=True)
    assert "has no key 'schedulez'; it is ignored" in " ".join(folder.told)


def test_what_is_not_applied_yet_is_said(folder: Folder) -> None:
    folder.deploy(TWO + "    sla: [{name: s, duration: 60}]\n", names=("tidy",))
    assert "'sla' of 'tidy' is not applied" in " ".join(folder.told)


TRIGGERS = """    triggers:
      - expect: order.placed
        match: {prefect.resource.id: shop.*}
        parameters: {n: "{{ event.payload.n }}"}
        schedule_after: 60
      - name: both
        enabled: false
        require: all
        within: 60
        triggers: [{expect: [a]}, {expect: [b]}]
"""


def test_d16_triggers_are_automations_that_go_with_the_deployment(folder: Folder) -> None:
    (planned,) = folder.deploy(TWO + TRIGGERS, names=("tidy",), plan_only=True).deployments
    assert (planned.action, folder.server.automations) == ("create", [])
    folder.deploy(names=("tidy",))
    made = folder.server.named("tidy")
    (owner, first), (_, second) = folder.server.automations
    assert owner == f"prefect.deployment.{made.id}"
    assert (first.name, second.name, second.enabled) == ("clean/tidy trigger 1", "both", False)
    assert isinstance(first.trigger, EventTrigger)
    assert (first.trigger.expect, first.trigger.posture) == (["order.placed"], "Reactive")
    assert isinstance(second.trigger, CompoundTrigger)
    (action,) = first.actions
    assert isinstance(action, RunDeployment)
    assert (action.deployment_id, action.schedule_after) == (made.id, 60.0)
    assert action.parameters == {"n": "{{ event.payload.n }}"}
    folder.server.calls.clear()
    assert folder.deploy(names=("tidy",)).deployments[0].action == "unchanged"
    assert not any("POST /automations" in call or "DELETE" in call for call in folder.server.calls)


def test_d16_changed_triggers_are_replaced_and_absent_ones_stay(folder: Folder) -> None:
    folder.deploy(TWO + TRIGGERS, names=("tidy",))
    changed = TWO + TRIGGERS.replace("order.placed", "order.paid")
    (planned,) = folder.deploy(changed, names=("tidy",), plan_only=True).deployments
    assert planned.changes == {"triggers": [["clean/tidy trigger 1", "both"]] * 2}
    folder.deploy(names=("tidy",))
    triggers = [one.trigger for _, one in folder.server.automations]
    assert len(triggers) == 2
    assert isinstance(triggers[0], EventTrigger)
    assert triggers[0].expect == ["order.paid"]
    assert folder.deploy(TWO, names=("tidy",)).deployments[0].action == "unchanged"
    assert len(folder.server.automations) == 2
    folder.deploy(TWO + "    triggers: []\n", names=("tidy",))
    assert folder.server.automations == []


@pytest.mark.parametrize(
    ("trigger", "said"),
    [
        ("{expect: [x], posture: Sometimes}", "posture"),
        ("{expect: [x], threshold: many}", "threshold"),
        ("{require: 3, within: 1, triggers: [{expect: [a]}]}", "require"),
        ("{expect: [x], parameters: {a: '{{ event. }}'}}", "a:"),
        ("{expect: ['prefect.flow-run.*']}", "without end"),
    ],
)
def test_d16_a_trigger_that_cannot_be_used_is_refused_with_its_place(
    folder: Folder, trigger: str, said: str
) -> None:
    (error,) = folder.errors(TWO + f"    triggers:\n      - {trigger}\n", names=("tidy",))
    assert "trigger" in error.message
    assert said in error.why
    assert error.line > 10


def test_another_file_can_be_named(folder: Folder) -> None:
    folder.write("other.yaml", TWO)
    assert labels(folder.deploy(file=Path("other.yaml"), names=("tidy",))) == ["clean/tidy"]
    with pytest.raises(SourceErrors) as caught:
        folder.deploy(file=Path("othr.yaml"), names=("tidy",))
    assert "other.yaml" in caught.value.errors[0].fix
