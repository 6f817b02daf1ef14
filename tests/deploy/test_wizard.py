"""Whatever is answered, the wizard makes a deployment that the checks accept (rows D2, D3)."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eparch.core.errors import SourceErrors, Usage
from eparch.deploy.answers import FLAGS, OF_SCHEDULE, TEXTS, Answers, write_answers
from eparch.deploy.flags import equivalent_commands
from eparch.deploy.project import parse_project
from eparch.deploy.scan import FoundFlow
from eparch.deploy.source import Position, parse
from eparch.deploy.wizard import Facts, Pool, converse, next_times, wizard
from eparch.deploy.writing import add_deployment

NOW = datetime(2026, 3, 28, 12, tzinfo=UTC)
TEXT = {
    "cron": ["0 3 * * *", "*/5 * * * 1-5"],
    "interval": ["3600", "PT1H", "0.5"],
    "rrule": ["FREQ=WEEKLY;BYDAY=MO"],
    "timezone": ["Europe/Athens", "UTC"],
}


def flow(name, file="flows.py"):
    place = Position(file=file)
    return FoundFlow(name=name, function_name=name, entrypoint=f"{file}:{name}", position=place)


def facts_of(**more):
    known = {
        "flows": (flow("load"), flow("report")),
        "pools": (
            Pool(name="d", type="docker", takes_image=True),
            Pool(name="p", type="process", takes_image=False),
        ),
        "types": {"process": False, "docker": True},
        "repository": "https://git.example/etl.git",
        "dockerfile": True,
        "folder": "etl",
        "now": NOW,
    }
    return Facts(**{**known, **more})


some_facts = st.builds(
    facts_of,
    pools=st.sampled_from([(), facts_of().pools]),
    image=st.sampled_from(["", "{{ built.image }}"]),
    has_pull=st.booleans(),
    dockerfile=st.booleans(),
    repository=st.sampled_from(["", "git@git.example:etl.git"]),
    folder=st.sampled_from(["etl", "My Code", "{{ x }}"]),
    branch=st.sampled_from(["", "main"]),
    default_pool=st.sampled_from([None, "d", "else where"]),
    timezone=st.sampled_from(["UTC", "Europe/Athens", "No/Where"]),
)


def answerer(data, log):
    """Answers anything that the question lets pass: rows, its default, or drawn texts."""

    def answer(question):
        if question.is_flag:
            found = data.draw(st.booleans())
        else:
            rows = [choice.value for choice in question.choices]
            if question.key[-1] == "kind" and question.key[1] >= 2:
                rows = ["none"]
            texts = st.text(max_size=20) | st.sampled_from(["a-b", "x", "1", "yes", "{{ a }}", "new"])
            written = st.sampled_from(TEXT.get(str(question.key[-1]), ["given"])) | texts
            pool = st.sampled_from(rows) if rows and not question.other else written
            if rows and question.other:
                pool = st.sampled_from(rows) | written
            if question.default is not None:
                assert question.problem(question.default) == "", question
                pool |= st.just(question.default)
            found = data.draw(pool.filter(lambda text: not question.problem(text)))
        log.append((question.key, found))
        return found

    return answer


@settings(max_examples=50, deadline=None)
@given(st.data(), some_facts)
def test_d2_every_conversation_makes_a_deployment_without_a_finding(data, facts):
    log = []
    decision = converse(wizard(facts), answerer(data, log))
    built = "build:\n  - prefect_docker.deployments.steps.build_docker_image:\n      id: built\n"
    built += "      image_name: x\n"
    text = "name: etl  # ours\n" + (built if facts.image else "") + ("pull: []\n" if facts.has_pull else "")
    changed = add_deployment(text, decision.deployment)
    assert changed.startswith(text)
    project = parse_project(changed)
    assert project.notes == []
    [made] = project.deployments
    said = dict(log)
    assert (
        (made.name, made.entrypoint) == (said["name",], said["flow",]) == (decision.name, decision.entrypoint)
    )
    assert made.work_pool.name == decision.pool
    assert len(made.schedules or ()) == sum(key[-1] == "kind" and a != "none" for key, a in log)
    assert (decision.pool_type is None) is (decision.pool in [pool.name for pool in facts.pools])
    lines = equivalent_commands(decision, decision.deployment, None)
    assert any("create" in line for line in lines) is (decision.pool_type is not None)

    replay = Answers(parse(write_answers(log), "answers.yaml"))
    assert converse(wizard(facts), lambda question: replay.answer(question, None)) == decision


def play(facts, **answers):
    log = {
        "name": "n",
        "schedules": "none",
        "storage": "local",
        "save": True,
        "flow": "flows.py:report",
        **answers,
    }

    def answer(question):
        found = log.get(question.key[0], question.default)
        assert question.problem(found) == "", question
        return found

    return converse(wizard(facts), answer)


def test_19378_the_chosen_row_is_what_is_decided():
    twins = (flow("report"), flow("report", "b.py"), flow("load"))
    for one in twins:
        decision = play(facts_of(flows=twins), flow=one.entrypoint, pool="p")
        assert decision.deployment["entrypoint"] == decision.entrypoint == one.entrypoint


def test_d3_an_image_is_asked_for_only_where_the_pool_takes_one():
    made = play(facts_of(), pool="d", image="auto", image_name="team/etl", registry="r.example/", push=True,
                registry_private=True, registry_credentials="reg").deployment  # fmt: skip
    [[build]] = [step.values() for step in made["build"]]
    assert (build["image_name"], build["tag"], build["dockerfile"]) == (
        "r.example/team/etl",
        "latest",
        "auto",
    )
    [[push]] = [step.values() for step in made["push"]]
    assert push["credentials"] == "{{ prefect.blocks.docker-registry-credentials.reg }}"
    assert made["work_pool"]["job_variables"] == {"image": "{{ build_image.image }}"}
    assert "build" not in play(facts_of(), pool="p", image="auto").deployment
    assert "push" not in play(facts_of(), pool="d", image="auto", push=False).deployment
    kept = play(facts_of(image="{{ own.image }}"), pool="d", image="auto").deployment
    assert "build" not in kept
    assert kept["work_pool"]["job_variables"] == {"image": "{{ own.image }}"}


def test_d3_code_in_git_and_in_buckets():
    made = play(facts_of(), pool="p", storage="git", private=True, token="tok").deployment
    assert made["pull"] == [
        {
            "prefect.deployments.steps.git_clone": {
                "repository": "https://git.example/etl.git",
                "branch": "main",
                "access_token": "{{ prefect.blocks.secret.tok }}",
            }
        }
    ]
    made = play(facts_of(), pool="p", storage="gcs", bucket="code", credentials="mine").deployment
    [[push]], [[pull]] = ([step.values() for step in made[part]] for part in ("push", "pull"))
    assert (push["bucket"], push["folder"], pull["folder"]) == ("code", "etl/n", "{{ push_code.folder }}")
    assert push["credentials"] == pull["credentials"] == "{{ prefect.blocks.gcp-credentials.mine }}"


def test_the_next_five_times_are_by_the_wall_clock():
    lines = next_times({"cron": "30 3 * * *", "timezone": "Europe/Athens"}, NOW)
    assert len(lines) == 6
    assert lines[1] == "  Sun 2026-03-29 04:00:00 EEST"  # half past three is skipped that night
    assert lines[2] == "  Mon 2026-03-30 03:30:00 EEST"


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(Usage, match="no flow here"):
        next(wizard(facts_of(flows=())))
    with pytest.raises(Usage, match="'a/b' cannot be used"):
        converse(
            wizard(facts_of(), {"flow": "flows.py:load", "name": "a/b"}), lambda question: question.default
        )
    taken = facts_of(taken=frozenset({("n", "flows.py:report")}))
    with pytest.raises(AssertionError, match="Name of the deployment"):
        play(taken, pool="p")


@pytest.mark.parametrize(
    "text", ["- a\n", "flow: [a]\n", "save: 1\n", "schedules: x\n", "schedules: [1]\n", "x: 1\n"]
)
def test_a_file_of_answers_is_strict(text):
    with pytest.raises(SourceErrors):
        Answers(parse(text, "a.yaml"))


def test_every_key_of_the_wizard_can_be_in_a_file():
    assert not set(FLAGS) & set(TEXTS)
    assert set(OF_SCHEDULE) >= {"cron", "interval", "rrule"}


def test_flags_say_what_they_can():
    decision = play(facts_of(), pool="p")
    raw = {**decision.deployment, "tags": ["a b"], "parameters": {"n": 1}, "concurrency_limit": 2}
    [line] = equivalent_commands(decision, raw, "other.yaml")
    assert line == (
        "eparch deploy flows.py:report --name n --pool p --tag 'a b' --params '{\"n\": 1}' "
        "--concurrency-limit 2 --prefect-file other.yaml"
    )
    assert equivalent_commands(decision, {**raw, "triggers": [{}]}, None) == [
        "eparch deploy flows.py:report --name n"
    ]
