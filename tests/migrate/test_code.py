"""``Deployment.build_from_flow`` becomes ``flow.deploy``, or stays with a note (row M8)."""

# ruff: noqa: E501 - a form is seen best in one line

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eparch.client.http import Client
from eparch.core import calls
from eparch.core.pools import WorkPoolCreate
from eparch.migrate.code import Rewritten, Targets, rewrite_code

TARGETS = Targets(
    infrastructure={"KubernetesJob/k8s": "k8s", "DockerContainer/d": "docker", "Process/p": "local"},
    storage={"S3/code": "s3://bucket/flows", "GitHub/repo": "https://github.com/a/b.git"},
    pools={"old": "new"},
    default_pool="local",
    files=["flows/etl.py", "other/etl.py"],
)
HEAD = "from prefect import flow\nfrom prefect.deployments import Deployment\n"
FLOW = "\n\n@flow\ndef f(n=1):\n    return n\n\n\n"


def change(text: str, path: str = "flows/x.py") -> Rewritten:
    """The text rewritten, which is Python and which a second time leaves alone."""
    done = rewrite_code(text, path, TARGETS)
    compile(done.text, path, "exec")
    assert rewrite_code(done.text, path, TARGETS).text == done.text
    return done


# What stands before the flow, the call; what becomes of them.
FORMS = {
    "applied in main": (
        "",
        'd = Deployment.build_from_flow(\n    flow=f,\n    name="a",  # mine\n    tags=["x"],\n)\n\n'
        'if __name__ == "__main__":\n    d.apply()\n',
        "",
        'if __name__ == "__main__":\n'
        '    f.deploy(\n        name="a",  # mine\n        work_pool_name="local",\n        tags=["x"],\n    )\n',
    ),
    "applied at once": (
        "",
        'Deployment.build_from_flow(f, "a", version=1, work_pool_name="old").apply()\n',
        "",
        'f.deploy(name="a", version=1, work_pool_name="new")\n',
    ),
    "an argument that applies": (
        "",
        'Deployment.build_from_flow(flow=f, name="a", apply=True)\n',
        "",
        'f.deploy(name="a", work_pool_name="local")\n',
    ),
    "a block in a variable": (
        "from prefect.infrastructure import KubernetesJob, Process\n\n# where it runs\n"
        'job = KubernetesJob.load("k8s")\n',
        'd = Deployment.build_from_flow(\n    flow=f, name="a", infrastructure=job,\n'
        '    infra_overrides={"env.A": "1", "image": "i"},\n)\nd.apply()\n',
        "\n# where it runs\n",
        'f.deploy(\n    name="a", work_pool_name="k8s",\n'
        '    job_variables={"env": {"A": "1"}, "image": "i"},\n)\n',
    ),
    "overrides of one mapping": (
        "",
        'Deployment.build_from_flow(flow=f, name="a", infra_overrides={"env.A": "1", "env.B": x}).apply()\n',
        "",
        'f.deploy(name="a", work_pool_name="local", job_variables={"env": {"A": "1", "B": x}})\n',
    ),
    "a cron": (
        "from prefect.orion.schemas.schedules import CronSchedule\n",
        'Deployment.build_from_flow(flow=f, name="a", schedule=CronSchedule(cron="0 3 * * *")).apply()\n',
        "",
        'f.deploy(name="a", work_pool_name="local", cron="0 3 * * *")\n',
    ),
    "a cron with its zone": (
        "from prefect.server.schemas.schedules import CronSchedule\n",
        "Deployment.build_from_flow(flow=f, name=\"a\", schedule=(CronSchedule(cron='0 3 * * *',"
        " timezone='Europe/Berlin'))).apply()\n",
        "from prefect.schedules import Cron\n",
        "f.deploy(name=\"a\", work_pool_name=\"local\", schedule=(Cron('0 3 * * *', timezone='Europe/Berlin')))\n",
    ),
    "an interval in a variable, not active": (
        "from datetime import timedelta\nfrom prefect.client.schemas.schedules import IntervalSchedule\n"
        "each = IntervalSchedule(interval=timedelta(hours=1))\n",
        'Deployment.build_from_flow(flow=f, name="a", schedule=each, is_schedule_active=False).apply()\n',
        "from datetime import timedelta\nfrom prefect.schedules import Interval\n",
        'f.deploy(name="a", work_pool_name="local", schedule=Interval(timedelta(hours=1), active=False))\n',
    ),
    "a rule": (
        "from prefect.orion.schemas.schedules import RRuleSchedule\n",
        'Deployment.build_from_flow(flow=f, name="a", schedule=RRuleSchedule(rrule="FREQ=DAILY")).apply()\n',
        "",
        'f.deploy(name="a", work_pool_name="local", rrule="FREQ=DAILY")\n',
    ),
    "code in a bucket": (
        'from prefect.filesystems import S3\ncode = S3.load("code")\n',
        'd = Deployment.build_from_flow(flow=f, name="a", storage=code)\nd.apply(upload=False)\n',
        "",
        'f.from_source(source="s3://bucket/flows", entrypoint="flows/x.py:f").deploy('
        'name="a", work_pool_name="local")\n',
    ),
    "code in a repository, the flow of another file": (
        "from prefect.filesystems import GitHub\nfrom etl import load\n",
        'Deployment.build_from_flow(flow=load, name="a", storage=GitHub.load("repo")).apply()\n',
        "from etl import load\n",
        'load.from_source(source="https://github.com/a/b.git", entrypoint="flows/etl.py:load").deploy('
        'name="a", work_pool_name="local")\n',
    ),
    "one name for two": (
        "",
        'd = Deployment.build_from_flow(flow=f, name="a")\nd.apply()\n'
        'd = Deployment.build_from_flow(flow=f, name="b")\nd.apply()\n',
        "",
        'f.deploy(name="a", work_pool_name="local")\nf.deploy(name="b", work_pool_name="local")\n',
    ),
    "awaited in a function": (
        "",
        'async def main():\n    d = await_ = None\n    x = Deployment.build_from_flow(flow=f, name="a")\n    await x.apply()\n',
        "",
        'async def main():\n    d = await_ = None\n    await f.deploy(name="a", work_pool_name="local")\n',
    ),
    "a loop": (
        "",
        "for q in queues:\n    d = Deployment.build_from_flow(flow=f, name=q, work_queue_name=q)\n    d.apply()\n",
        "",
        'for q in queues:\n    f.deploy(name=q, work_pool_name="local", work_queue_name=q)\n',
    ),
}  # fmt: skip


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("form", FORMS)
def test_m8_a_deployment_that_is_understood_becomes_flow_deploy(form: str, ends: str) -> None:
    before, call, above, new = FORMS[form]
    done = change((HEAD + before + FLOW + call).replace("\n", ends))
    assert [note for note in done.notes if "has to hold the repository" not in note] == []
    assert bool(done.notes) == (form == "code in a bucket")
    expected = HEAD.replace("from prefect.deployments import Deployment\n", "") + above + FLOW + new
    if "from prefect.schedules" in above and not before.startswith("from datetime"):
        # The new import comes in the place of the first that goes.
        expected = HEAD.replace("from prefect.deployments import Deployment\n", above) + FLOW + new
    got = done.text.replace(ends, "\n")
    assert [line for line in got.splitlines() if line] == _in_order(expected, got)
    assert got.count("\n\n\n") == expected.count("\n\n\n")
    assert ends == "\n" or "\n" not in done.text.replace(ends, "")


def _in_order(expected: str, got: str) -> list[str]:
    """The expected lines; imports may stand in another order."""
    lines = [line for line in expected.splitlines() if line]
    imports = [line for line in got.splitlines() if line.startswith("from ")]
    assert sorted(imports) == sorted(line for line in lines if line.startswith("from "))
    rest = [line for line in lines if not line.startswith("from ")]
    return imports + rest


LEFT = [
    ('d = Deployment.build_from_flow(flow=f, name="a")\nprint(d)\nd.apply()\n', "'d' is also used otherwise"),
    ('d = Deployment.build_from_flow(flow=f, name="a")\n', "its .apply() is not found"),
    ('d = Deployment.build_from_flow(flow=f, name="a")\nd.apply()\nd.apply()\n', "applied more than once"),
    ('g(Deployment.build_from_flow(flow=f, name="a"))\n', "part of something larger"),
    ("Deployment.build_from_flow(**given).apply()\n", "its arguments come from elsewhere"),
    ('Deployment.build_from_flow(flow=f.with_options(), name="a").apply()\n', "its flow is not a plain name"),
    ('Deployment.build_from_flow(flow=f, name="a", path="/x").apply()\n', "'path' has no place"),
    ('Deployment.build_from_flow(flow=f, name="a", infrastructure=make()).apply()\n', "not a block that is loaded"),
    ('Deployment.build_from_flow(flow=f, name="a", schedule=s()).apply()\n', "its schedule is not made"),
    ('Deployment.build_from_flow(flow=f, name="a", infra_overrides=o).apply()\n', "overrides are made elsewhere"),
    ('Deployment.build_from_flow(flow=f, name="a", infra_overrides={"customizations": []}).apply()\n', "a manifest"),
    ('Deployment.build_from_flow(flow=f, name="a", infra_overrides={"a": 1, "a.b": 2}).apply()\n', "twice"),
    ('Deployment.build_from_flow(flow=f, name="a").apply(upload=True)\n', "uploads its code"),
    ('p = {}\nd = Deployment.build_from_flow(flow=f, name="a", parameters=p)\np["n"] = 2\nd.apply()\n', "may change"),
    ('p = {}\nd = Deployment.build_from_flow(flow=f, name="a", parameters=p)\np.update(n=2)\nd.apply()\n', "may change"),
    ('from prefect.orion.schemas.schedules import CronSchedule\nfor h in hours:\n    s = CronSchedule(cron=h)\nDeployment.build_from_flow(flow=f, name="a", schedule=s).apply()\n', "its schedule is not made"),
    ('Deployment(name="a", flow_name="f").apply()\n', "does not name its flow"),
    ('Deployment.build_from_flow(\n    flow=f,  # mine\n    name="a",\n).apply()\n', "a comment stands"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "said"), LEFT)
def test_m8_what_cannot_be_proven_stays_and_is_said_with_its_place(call: str, said: str) -> None:
    text = HEAD + FLOW + call
    done = change(text)
    assert done.text == text
    [note] = done.notes
    line = text[: text.index("Deployment", len(HEAD))].count("\n") + 1
    assert note.startswith(f"flows/x.py:{line}: left as it is: ")
    assert said in note


@pytest.mark.parametrize(
    ("load", "said"),
    [
        ('infrastructure=KubernetesJob.load("x")', "the work pool of the block KubernetesJob/x is not known"),
        ('storage=S3.load("x")', "the address of the storage block S3/x is not known"),
    ],
)
def test_m8_a_block_that_is_not_converted_is_named(load: str, said: str) -> None:
    imports = "from prefect.infrastructure import KubernetesJob\nfrom prefect.filesystems import S3\n"
    text = HEAD + imports + FLOW + f'Deployment.build_from_flow(flow=f, name="a", {load}).apply()\n'
    done = change(text)
    assert done.text == text
    assert said in done.notes[0]


def test_m8_one_that_stays_keeps_what_it_needs() -> None:
    text = (
        HEAD
        + 'from prefect.infrastructure import Process\nx = Process.load("p")\n'
        + FLOW
        + 'Deployment.build_from_flow(flow=f, name="a", infrastructure=x).apply()\n'
        + 'd = Deployment.build_from_flow(flow=f, name="b", infrastructure=x)\n'
    )
    done = change(text)
    assert done.text == text.replace(
        'Deployment.build_from_flow(flow=f, name="a", infrastructure=x).apply()',
        'f.deploy(name="a", work_pool_name="local")',
    )
    assert [note.partition(":")[2].partition(":")[0] for note in done.notes] == ["13"]


def test_m8_a_pool_that_nobody_knows_is_asked_for() -> None:
    text = HEAD + FLOW + 'Deployment.build_from_flow(flow=f, name="a").apply()\n'
    done = rewrite_code(text)
    assert done.text == text
    assert "names no work pool" in done.notes[0]


@pytest.mark.parametrize(
    "text", ["", "x = 1\n", "from x import Deployment\nDeployment.build_from_flow(1)  # prefect\n"]
)
def test_m8_other_code_stays(text: str) -> None:
    assert change(text) == Rewritten(text)


def test_m8_what_is_not_python_stays_and_is_said() -> None:
    done = rewrite_code("import prefect\nDeployment(\n", "a.py")
    assert done.text == "import prefect\nDeployment(\n"
    assert "a.py:" in done.notes[0]


@pytest.mark.parametrize(
    "deep", ["(" * 5000 + ")" * 5000, "-" * 5000 + "1", "a" + ".b" * 5000, "1" + "+1" * 5000]
)
def test_m8_hostile_code_stays_and_is_said(deep: str) -> None:
    text = HEAD + FLOW + 'Deployment.build_from_flow(flow=f, name="a").apply()\n' + f"x = {deep}\n"
    done = rewrite_code(text, "a.py", TARGETS)
    assert done.text == text
    assert "left as it is" in done.notes[0]


SCRIPT = """from datetime import timedelta

from prefect import flow
from prefect.deployments import Deployment
from prefect.filesystems import LocalFileSystem
from prefect.infrastructure import Process
from prefect.orion.schemas.schedules import CronSchedule, IntervalSchedule

mine = Process.load("p")


@flow(name="codemod")
def report(day: str = "today", pages: int = 1):
    return pages


one = Deployment.build_from_flow(
    flow=report,
    name="nightly",
    parameters={"pages": 2},
    infrastructure=mine,
    infra_overrides={"env.A": "1"},
    schedule=CronSchedule(cron="0 3 * * *", timezone="Europe/Berlin"),
)
two = Deployment.build_from_flow(
    flow=report,
    name="hourly",
    tags=["x"],
    storage=LocalFileSystem.load("code"),
    schedule=IntervalSchedule(interval=timedelta(hours=1)),
)

if __name__ == "__main__":
    one.apply()
    two.apply()
"""


def test_m8_what_was_rewritten_registers_the_same_deployments(server: Any, tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    targets = Targets(
        infrastructure={"Process/p": "codemod"},
        storage={"LocalFileSystem/code": str(tmp_path)},
        default_pool="codemod",
    )
    done = rewrite_code(SCRIPT, "flows/x.py", targets)
    assert len(done.notes) == 1
    (tmp_path / "flows" / "x.py").write_text(done.text)
    run = (
        "from eparch.sdk import compat; compat.install(); import runpy; "
        "runpy.run_path('flows/x.py', run_name='__main__')"
    )
    with Client(server.api_url) as client:
        client.send(calls.create_work_pool(body=WorkPoolCreate(name="codemod", type="process")))
        subprocess.run([sys.executable, "-c", run], cwd=tmp_path, env=server.env, check=True, timeout=100)
        one, two = (
            client.send(calls.read_deployment_by_name(flow_name="codemod", deployment_name=name))
            for name in ("nightly", "hourly")
        )
    assert (one.parameters, one.job_variables, one.work_pool_name) == (
        {"pages": 2}, {"env": {"A": "1"}}, "codemod",
    )  # fmt: skip
    [schedule] = one.schedules
    assert (schedule.schedule["cron"], schedule.schedule["timezone"]) == ("0 3 * * *", "Europe/Berlin")
    assert (two.tags, two.schedules[0].schedule["interval"]) == (["x"], 3600)
    assert one.entrypoint == two.entrypoint == "flows/x.py:report"
