"""Commands and flags of Prefect's command line parse the same (features 1.6)."""

import re
from pathlib import Path

import click
import pytest

from eparch.cli.deploy import _request
from eparch.core.errors import EXIT

from .test_tree import TREE, name_of

ROOT = Path(__file__).parents[2]

FLAGS = {
    "deploy": "-n --name -d --description --version --version-type -t --tag --concurrency-limit -cl"
    " --collision-strategy -p --pool -q --work-queue --job-variable -jv --cron --interval"
    " --anchor-date --rrule --timezone --trigger --param --params --enforce-parameter-schema"
    " --no-enforce-parameter-schema --all --no-all --prefect-file --sla -v --variable",
    "agent start": "-q --work-queue -m --match -p --pool --hide-welcome --api --run-once --prefetch-seconds"
    " -t --tag -l --limit",
    "worker start": "-n --name -p --pool -q --work-queue -t --type --prefetch-seconds --run-once -l --limit"
    " --with-healthcheck --install-policy --base-job-template --create-pool-if-not-found"
    " --no-create-pool-if-not-found",
    "work-pool create": "-t --type --base-job-template --paused --set-as-default --overwrite",
    "work-pool ls": "-v --verbose -o --output",
    "work-pool update": "--base-job-template --concurrency-limit --description",
    "work-pool get-default-base-job-template": "-t --type -f --file",
    "work-pool preview": "-h --hours",
    "work-queue create": "-l --limit -p --pool -q --priority",
    "work-queue ls": "-v --verbose -m --match -p --pool",
    "work-queue pause": "-p --pool",
    "work-queue preview": "-h --hours -p --pool",
    "work-queue slots": "-p --pool",
    "work-queue read-runs": "-p --pool",
    "deployment ls": "--flow-name --flow_name --by-created --no-by-created -o --output",
    "deployment inspect": "-o --output",
    "deployment run": "--id --job-variable -jv -p --param --params --start-in --start-at --tag --watch"
    " --no-watch --watch-interval --watch-timeout --flow-run-name",
    "deployment delete": "--id --all --no-all",
    "deployment schedule create": "--interval --anchor-date --rrule --cron --day_or --timezone --active"
    " --no-day_or --no-active --replace --no-replace -y --accept-yes --no-accept-yes",
    "deployment schedule pause": "--all",
    "deployment schedule clear": "-y --accept-yes --no-accept-yes",
    "flow-run ls": "--flow-name --limit --state --state-type",
    "flow-run logs": "-h --head -n --num-logs -r --reverse -t --tail",
    "flow-run watch": "--timeout",
    "task-run ls": "--task-run-name --limit --state --state-type -o --output",
    "task-run logs": "-h --head --no-head -n --num-logs -r --reverse --no-reverse -t --tail --no-tail",
    "event stream": "--format --output-file --run-once",
    "event emit": "-r --resource --resource-id --related -p --payload",
    "flow ls": "--limit",
    "flow serve": "-n --name -d --description -v --version -t --tag --cron --interval --anchor-date --rrule"
    " --timezone --pause-on-shutdown --no-pause-on-shutdown --limit --global-limit",
    "block ls": "-o --output",
    "block inspect": "--id -o --output",
    "block delete": "--id",
    "block type inspect": "-o --output",
    "concurrency-limit ls": "--limit --offset -o --output",
    "global-concurrency-limit create": "-l --limit --disable --active-slots --slot-decay-per-second",
    "global-concurrency-limit update": "--enable --disable -l --limit --active-slots --slot-decay-per-second",
    "global-concurrency-limit inspect": "-o --output -f --file",
    "server start": "--host --port --log-level --no-services -b --background",
    "server status": "--wait -t --timeout -o --output",
    "config view": "--show-defaults --hide-defaults --show-sources --hide-sources --show-secrets"
    " --hide-secrets",
    "config unset": "-y --yes",
    "profile create": "--from",
    "init": "--name --recipe -f --field",
}


@pytest.mark.parametrize("name", FLAGS)
def test_flags_of_prefect_are_there(name):
    command = next(command for path, command in TREE if name_of(path) == name)
    there = {flag for param in command.params for flag in [*param.opts, *param.secondary_opts]}
    assert set(FLAGS[name].split()) <= there


def request(*arguments):
    command = next(command for path, command in TREE if path == ("deploy",))
    context = command.make_context("deploy", list(arguments))
    given = {name: value for name, value in context.params.items() if name != "entrypoint"}
    return _request(context.params["entrypoint"], given)


def test_deploy_reads_its_flags_into_a_request(environ):
    found = request(
        "flows/x.py:f", "-n", "a", "-n", "b*", "-d", "text", "--version", "1", "-t", "x", "--tag", "y",
        "--concurrency-limit", "3", "--collision-strategy", "cancel_new", "-p", "local", "-q", "urgent",
        "-jv", "cpu=2", "--job-variable", '{"env": {"A": "1"}}', "--cron", "0 3 * * *", "--timezone",
        "Europe/Athens", "--trigger", '{"expect": "a"}', "--trigger", '[{"expect": "b"}]', "--param", "n=1",
        "--params",
        '{"n": 0, "m": 2}', "--no-enforce-parameter-schema", "--prefect-file", "p.yaml",
    )  # fmt: skip
    assert found.entrypoint == "flows/x.py:f"
    assert found.names == ("a", "b*")
    assert (found.description, found.version, found.tags) == ("text", "1", ("x", "y"))
    assert (found.concurrency_limit, found.collision_strategy) == (3, "CANCEL_NEW")
    assert (found.pool, found.queue, found.file) == ("local", "urgent", Path("p.yaml"))
    assert found.job_variables == {"cpu": 2, "env": {"A": "1"}}
    assert found.schedules == ({"cron": "0 3 * * *", "day_or": True, "timezone": "Europe/Athens"},)
    assert found.triggers == ({"expect": "a"}, {"expect": "b"})
    assert found.parameters == {"n": 1, "m": 2}
    assert found.enforce_parameter_schema is False
    assert (found.all, found.plan_only) == (False, False)


def test_deploy_says_nothing_that_was_not_said(environ):
    found = request("--all", "--plan")
    assert (found.all, found.plan_only) == (True, True)
    assert found.enforce_parameter_schema is None
    assert (found.schedules, found.triggers, found.sla, found.lenient) == ((), (), (), False)
    assert (found.pool, found.names, found.parameters) == (None, (), {})


def test_rrule_may_be_json(environ):
    found = request("--rrule", '{"rrule": "FREQ=DAILY", "timezone": "Europe/Athens"}')
    assert found.schedules == ({"rrule": "FREQ=DAILY", "timezone": "Europe/Athens"},)


def test_several_schedules_may_be_given_and_the_anchor_is_that_of_the_intervals(environ):
    found = request("--cron", "0 3 * * *", "--cron", "0 4 * * *", "--interval", "3600", "--interval", "PT2H",
                    "--anchor-date", "2026-01-01T00:00:00Z", "--rrule", "FREQ=DAILY")  # fmt: skip
    kinds = [next(kind for kind in ("cron", "interval", "rrule") if kind in one) for one in found.schedules]
    assert kinds == ["cron", "cron", "interval", "interval", "rrule"]
    assert ["anchor_date" in one for one in found.schedules] == [False, False, True, True, False]


def test_triggers_and_service_levels_may_be_in_files(environ, tmp_path):
    (tmp_path / "t.yaml").write_text("triggers:\n  - {expect: [a]}\n  - {expect: [b]}\n")
    (tmp_path / "s.json").write_text('{"sla": [{"name": "quick", "duration": 60}]}')
    (tmp_path / "one.yml").write_text("expect: c\n")
    found = request("--trigger", f"{tmp_path}/t.yaml", "--trigger", f"{tmp_path}/one.yml",
                    "--sla", f"{tmp_path}/s.json", "--sla", '{"name": "often", "within": 9}')  # fmt: skip
    assert [one["expect"] for one in found.triggers] == [["a"], ["b"], "c"]
    assert [one["name"] for one in found.sla] == ["quick", "often"]


def test_documented_exit_codes_are_those_that_there_are():
    page = (ROOT / "docs" / "command-line.md").read_text()
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert codes == {0, 130, 141, *EXIT.values()}


def test_click_is_told_what_prefect_has_on_every_command():
    for path, command in TREE:
        if not isinstance(command, click.Group):
            there = {flag for param in command.params for flag in [*param.opts, *param.secondary_opts]}
            assert {"--profile", "--prompt", "--no-prompt"} <= there, path
