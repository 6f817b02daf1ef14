"""Policies of schedules, their preview and backfills as people use them, against a server (B1, B16)."""

from __future__ import annotations

import pytest

from eparch.core import calls
from eparch.core.schedule_policies import MissedPolicy, MissedRuns, Overlap

FLOWS = "from eparch import flow\n\n@flow\ndef report(day: str = 'today'):\n    pass\n"
FILE = """deployments:
  - name: {name}
    entrypoint: flows.py:report
    schedules:
      - {{cron: "30 2 * * *", timezone: Europe/Berlin, slug: night, missed_runs: latest, overlap: queue}}
    work_pool: {{name: backfills}}
"""


@pytest.fixture
def deployed(server, environ, tmp_path, run):
    for name, value in server.env.items():
        if name.startswith("EPARCH_"):
            environ.setenv(name, value)
    environ.chdir(tmp_path)
    run("work-pool", "create", "backfills", "--type", "process", "--overwrite", code=0)
    (tmp_path / "flows.py").write_text(FLOWS)
    own = tmp_path.name.replace("_", "-")[-30:]
    (tmp_path / "prefect.yaml").write_text(FILE.format(name=own))
    run("deploy", "--all", code=0)
    return f"report/{own}"


def test_b1_policies_from_file_and_flags_are_shown_and_kept(deployed, run, client, tmp_path):
    def schedules():
        flow, _, name = deployed.partition("/")
        return client.send(calls.read_deployment_by_name(flow_name=flow, deployment_name=name)).schedules

    (night,) = schedules()
    assert (night.missed_runs, night.overlap) == (MissedRuns(policy=MissedPolicy.LATEST), Overlap.QUEUE)
    assert "1 unchanged" in run("deploy", "--all", "--plan", code=0).err
    run("deployment", "schedule", "update", deployed, "night", "--missed-runs", "all:PT6H", code=0)
    (night,) = schedules()
    assert night.missed_runs == MissedRuns(policy=MissedPolicy.ALL, window=21600.0)
    # What a person changed stays, until the file says something else (D14).
    assert "another 'missed_runs' by hand" in run("deploy", "--all", "--plan", code=0).out
    file = tmp_path / "prefect.yaml"
    file.write_text(
        file.read_text().replace("missed_runs: latest", "missed_runs: {policy: skip, window: 60}")
    )
    run("deploy", "--all", code=0)
    assert schedules()[0].missed_runs == MissedRuns(policy=MissedPolicy.SKIP, window=60.0)
    file.write_text(file.read_text().replace("policy: skip", "policy: skipp").replace("queue", "queu"))
    refused = run("deploy", "--all", code=2).err
    assert "did you mean 'skip'?" in refused.lower()
    assert "did you mean 'queue'?" in refused.lower()

    def preview(*more):
        return run("deployment", "schedule", "preview", deployed, "-o", "json", *more, code=0).json()

    spring = preview("--from", "2026-03-28T00:00:00+00:00", "--count", 3)
    assert [one["mark"] for one in spring] == ["", "shifted", ""]
    assert [one["local"][11:16] for one in spring] == ["02:30", "03:00", "02:30"]
    autumn = preview("--from", "2026-10-24T00:00:00+00:00", "--count", 3)
    assert [one["mark"] for one in autumn] == ["", "repeated, first time", "clock change"]
    assert autumn[0]["missed_runs"] == {"policy": "skip", "window": 60.0}
    assert "shifted" in run("deployment", "schedule", "preview", deployed, "--from", "2026-03-28", code=0).out


def test_d17_service_levels_are_deployed_and_shown(deployed, run, tmp_path):
    file = tmp_path / "prefect.yaml"
    plain = file.read_text()
    file.write_text(plain + "    sla: [{name: quick, duration: PT1H}, {name: daily, stale_after: 86400}]\n")
    for _ in range(2):
        assert "not applied" not in run("deploy", "--all", code=0).err
        shown = run("deployment", "inspect", deployed, "-o", "json", code=0).json()["service_levels"]
        assert [(one["name"], one["seconds"]) for one in shown] == [("daily", 86400.0), ("quick", 3600.0)]
    file.write_text(plain + "    sla: []\n")
    run("deploy", "--all", code=0)
    assert "service_levels" not in run("deployment", "inspect", deployed, "-o", "json", code=0).json()


def test_b16_a_backfill_from_its_preview_to_its_end(deployed, run, eparch):
    words = ("deployment", "backfill", deployed, "--from", "2026-03-27T00:00:00+00:00")
    words = (*words, "--to", "2026-03-31T00:00:00+00:00")
    dry = run(*words, "--dry-run", "-o", "json", code=0)
    assert dry.json()["count"] == 4
    assert [one["mark"] for one in dry.json()["marked"]][:1] == ["shifted"]
    assert "4 runs of" in dry.err
    begun = ("-p", "day={{ logical_date }}", "--concurrency", "2", "--order", "desc", "-y", "-o", "json")
    made = eparch(*words, *begun).json()
    assert (made["total"], made["status"]) == (4, "RUNNING")
    id_ = made["id"]
    assert run("deployment", "backfill", "pause", id_, "-o", "json", code=0).json()["status"] == "PAUSED"
    assert run("deployment", "backfill", "resume", id_, "-o", "json", code=0).json()["status"] == "RUNNING"
    listed = run("deployment", "backfill", "ls", deployed, "-o", "json", code=0).json()
    assert [one["id"] for one in listed] == [id_]
    assert "Would cancel" in run("deployment", "backfill", "cancel", id_, "--dry-run", code=0).err
    run("deployment", "backfill", "cancel", id_, "-y", code=0)
    shown = run("deployment", "backfill", "inspect", id_, "-o", "json", code=0).json()
    assert shown["status"] == "CANCELLED"
    assert sum(shown["counts"].values()) == 4
    assert "is over" in run("deployment", "backfill", "resume", id_, code=None).err
    assert "for times that are past" in run(*words[:5], "--to", "2999-01-01", code=2).err
    assert "no schedule 'nigh'" in run(*words, "--schedule", "nigh", code=None).err
    assert "not the id" in run("deployment", "backfill", "inspect", "x", code=2).err
