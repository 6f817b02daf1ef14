"""Variables, newest artifacts and inputs of runs: the contract of every database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from eparch.core.errors import Conflict, Invalid
from eparch.core.filters import READ_LATEST_ARTIFACTS, READ_VARIABLES
from eparch.core.inputs import FlowRunInputCreate
from eparch.core.model import new_id
from eparch.core.records import Artifact
from eparch.core.states import Completed, Running
from eparch.core.variables import VariableCreate, VariableUpdate
from eparch.orchestration import inputs as sending
from eparch.orchestration import variables as changing
from eparch.store import inputs, records, runs, variables
from eparch.store.database import Database

from . import making
from .making import NOW
from .test_contract import HOSTILE, a_flow, through_json

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("document", HOSTILE)
async def test_b11_variable_is_read_as_it_was_written(database: Database, document: Any) -> None:
    body = VariableCreate(name="v", value=document, tags=["b", "a"])
    made = through_json(await database.write(changing.create_variable, body, NOW))
    assert (made["value"], made["tags"]) == (document, ["b", "a"])
    assert through_json(await database.read(variables.read_variable, UUID(made["id"]))) == made
    assert through_json(await database.read(variables.read_variable, "v")) == made


async def test_b11_name_of_a_variable_is_there_once(database: Database) -> None:
    await database.write(changing.create_variable, VariableCreate(name="v", value=1), NOW)
    with pytest.raises(Conflict, match="already exists"):
        await database.write(changing.create_variable, VariableCreate(name="v", value=2), NOW)
    row = {"id": new_id(), "created": NOW, "updated": NOW, "name": "v", "value": 3, "tags": []}
    with pytest.raises(Conflict):
        await database.write(variables.insert_variable, row)
    with pytest.raises(Invalid, match="NUL"):
        await database.write(changing.update_variable, "v", VariableUpdate(value="\x00"), NOW)
    assert through_json(await database.read(variables.read_variable, "v"))["value"] == 1


async def test_b11_null_is_a_value(database: Database) -> None:
    await database.write(changing.create_variable, VariableCreate(name="v", value=1, tags=["t"]), NOW)
    later = NOW + timedelta(seconds=1)
    change = VariableUpdate(value=None, tags=None, name=None)
    await database.write(changing.update_variable, "v", change, later)
    (found,) = through_json(await database.scan(variables.read_variables, READ_VARIABLES.parse({})))
    assert (found["value"], found["tags"], found["name"]) == (None, ["t"], "v")
    assert found["created"] != found["updated"]


async def test_b11_newest_of_each_key_by_id(database: Database) -> None:
    ids = sorted(new_id() for _ in range(6))
    keys = ["b", "a", "b", None, "a", "b"]
    for id_, key in reversed(list(zip(ids, keys, strict=True))):
        made = Artifact(id=id_, created=NOW, updated=NOW, key=key, data=str(id_))
        await database.write(records.insert_artifact, made)
    query = READ_LATEST_ARTIFACTS.parse({"sort": "KEY_ASC"})
    found = await database.scan(records.read_latest_artifacts, query)
    assert [(row["key"], str(row["latest_id"])) for row in found] == [("a", str(ids[4])), ("b", str(ids[5]))]
    assert await database.scan(runs.count, query) == 2
    assert str((await database.read(records.read_latest_artifact, "b"))["id"]) == str(ids[5])
    only = READ_LATEST_ARTIFACTS.parse({"artifacts": {"latest_id": {"any_": [str(ids[0]), str(ids[4])]}}})
    assert [row["key"] for row in await database.scan(records.read_latest_artifacts, only)] == ["a"]


async def test_b6_inputs_of_one_run_are_not_those_of_another(database: Database) -> None:
    flow_id = await a_flow(database)
    one, two = (making.flow_run(flow_id) for _ in range(2))
    await database.write(making.insert, one, two)
    for number, run in enumerate((one, two)):
        body = FlowRunInputCreate(key="k", value=f"{number} ☃\n", sender=None)
        await database.write(sending.create_input, run["id"], body, NOW)
    assert await database.read(inputs.read_input, two["id"], "k") == "1 ☃\n"
    found = through_json(await database.read(inputs.read_inputs, one["id"], "k", 10, []))
    assert [(row["value"], row["flow_run_id"]) for row in found] == [("0 ☃\n", str(one["id"]))]
    await database.write(sending.delete_input, one["id"], "k")
    assert await database.read(inputs.read_input, one["id"], "k") is None
    assert await database.read(inputs.read_input, two["id"], "k") is not None


async def test_history_is_in_the_order_of_time(database: Database) -> None:
    run = making.flow_run(await a_flow(database))
    await database.write(making.insert, run)
    states = [Running(timestamp=NOW), Completed(timestamp=NOW + timedelta(seconds=1), data={"a": [1]})]
    for state in reversed(states):
        await database.write(runs.append_flow_run_state, run["id"], state)
    found = through_json(await database.read(inputs.read_states, "flow_run", run["id"]))
    assert [row["id"] for row in found] == [str(state.id) for state in states]
    assert found[1]["data"] == {"a": [1]}
