"""Acceptance: limits on the real command line against our server."""

from uuid import uuid4

import pytest

from eparch.core import calls
from eparch.core.concurrency import TagSlotsOf


@pytest.fixture
def name():
    return f"db-{uuid4().hex[:8]}"


def test_b4_a_named_limit_from_create_to_delete(eparch, client, name, tmp_path):
    done = eparch("gcl", "create", name, "--limit", 5, "--active-slots", 2, "--slot-decay-per-second", 0.0001)
    assert (done.out, done.err) == ("", f"Created concurrency limit '{name}'.\n")
    made = client.send(calls.read_concurrency_limit(id_or_name=name))
    assert (made.limit, made.active, made.active_slots, made.slot_decay_per_second) == (5, True, 2, 0.0001)
    assert name in eparch("global-concurrency-limit", "ls", "-o", "name").out.split()
    eparch("gcl", "disable", name)
    assert eparch("gcl", "inspect", name, "-o", "json").json()["active"] is False
    eparch("gcl", "enable", name)
    changed = eparch("gcl", "update", name, "-l", 9, "--active-slots", 0, "--disable", "-o", "json").json()
    assert (changed["limit"], changed["active_slots"], changed["active"]) == (9, 0, False)
    eparch("gcl", "inspect", name, "--file", tmp_path / "limit.json")
    assert name in (tmp_path / "limit.json").read_text()
    eparch("gcl", "delete", name, "--dry-run")
    eparch("gcl", "delete", name, "-y")
    eparch("gcl", "inspect", name, code=3)


def test_b4_what_cannot_be_is_told(run, client, name):
    run("gcl", "create", name, "-l", 1, code=0)
    assert "already" in run("gcl", "create", name, "-l", 1, code=5).err
    assert "nothing to change" in run("gcl", "update", name, code=2).err
    assert "at once" in run("gcl", "update", name, "--enable", "--disable", code=2).err
    assert "--limit" in run("gcl", "create", "other", code=2).err
    assert f"Did you mean '{name}'?" in run("gcl", "inspect", name + "x", code=3).err
    assert "--yes" in run("gcl", "delete", name, code=2).err


def test_b4_the_limit_on_a_tag_from_create_to_delete(eparch, client, name):
    eparch("concurrency-limit", "create", name, 1)
    eparch("concurrency-limit", "create", name, 2)
    mine = uuid4()
    client.send(calls.take_tag_slots(body=TagSlotsOf(names=[name], task_run_id=mine)))
    shown = eparch("concurrency-limit", "inspect", name, "-o", "json").json()
    assert (shown["concurrency_limit"], shown["active_slots"]) == (2, [str(mine)])
    assert name in eparch("concurrency-limits", "ls").out
    assert eparch("concurrency-limit", "reset", name, "-o", "json").json()["active_slots"] == []
    eparch("concurrency-limit", "delete", name, "-y")
    assert name not in eparch("concurrency-limit", "ls", "-o", "name").out.split()
    assert "concurrency-limit ls" in eparch("concurrency-limit", "reset", name, code=3).err
