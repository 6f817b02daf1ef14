"""Every proposal from every situation is answered as Prefect's server answers it (wire 4.1, row B5).

``stock_transitions.json`` holds what Prefect 3.8.8's server answered over HTTP: status, answer, state, and
what it wrote besides. Where ours differs on purpose ``differing`` says how, docs/wire-differences.md why.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.orchestration.world import World

from eparch.core.model import decode, encode
from eparch.core.runs import FlowRunPolicy, FlowRunUpdate, SetState, StateAnswer, TaskRunPolicy
from eparch.core.states import FINAL, StateCreate, StateType
from eparch.orchestration import runs, transition
from eparch.store.runs import read_flow_run, read_task_run

pytestmark = pytest.mark.anyio

FACTS = json.loads((Path(__file__).parent / "stock_transitions.json").read_text())
SITUATIONS = [(kind, situation) for kind in ("flow", "task") for situation in FACTS[kind]["situations"]]
OVER = {type_.value for type_ in FINAL}
TIMES = ("scheduled_time", "pause_timeout")


def a_proposal(world: World, shape: dict[str, Any]) -> StateCreate:
    """The state of the table; its times are seconds from now."""
    details = dict(shape.get("state_details", {}))
    for name in TIMES:
        if name in details:
            details[name] = world.now + timedelta(seconds=float(details[name]))
    return decode(encode({**shape, "state_details": details}), StateCreate)


class Stage:
    """Runs of one kind in one surrounding, brought into situations."""

    def __init__(self, world: World, kind: str, around: str) -> None:
        self.world, self.kind, self.around = world, kind, around
        self.number = 0

    async def begin(self) -> None:
        self.flow = await self.world.flow("flow")
        self.deployment = await self.world.deployment(None, flow_id=self.flow)
        self.parent = await self.world.ad_hoc(self.flow)
        await self.world.go(self.parent, StateType.RUNNING)

    async def run(self, steps: list[Any]) -> UUID:
        """A run that has come so far."""
        states = [step for step in steps if isinstance(step, dict)]
        retries = 1 if "retries" in steps else 0
        self.number += 1
        if self.kind == "task":
            flow_run = self.parent if self.around == "flow" else None
            run = await self.world.dummy_task(
                flow_run, empirical_policy=TaskRunPolicy(retries=retries, retry_delay=0)
            )
        else:
            more: dict[str, Any] = {"deployment_id": self.deployment} if self.around == "deployment" else {}
            if "subflow" in steps:
                more["parent_task_run_id"] = await self.world.dummy_task(self.parent)
            first = a_proposal(self.world, states.pop(0))
            policy = FlowRunPolicy(retries=retries, retry_delay=0)
            run = await self.world.ad_hoc(self.flow, state=first, empirical_policy=policy, **more)
            steps = steps[steps.index(next(step for step in steps if isinstance(step, dict))) + 1 :]
            if "pid" in steps:
                patch = FlowRunUpdate(infrastructure_pid="host:1")
                await self.world.database.write(runs.update_flow_run, run, patch, self.world.now)
        for step in states:
            await self.propose(run, step, force=False)
        return run

    async def propose(self, run: UUID, shape: dict[str, Any], *, force: bool) -> tuple[StateAnswer, bool]:
        self.world.pass_seconds(0.001)
        change = transition.set_flow_run_state if self.kind == "flow" else transition.set_task_run_state
        body = SetState(state=a_proposal(self.world, shape), force=force)
        answered = await self.world.database.write(change, run, body, self.world.now)
        return answered.answer, answered.wrote

    async def look(self, run: UUID) -> dict[str, Any]:
        """The run as the wire has it, without what goes on by itself."""
        reader: Any = read_flow_run if self.kind == "flow" else read_task_run
        found = json.loads(encode(await self.world.database.read(reader, run, self.world.now)))
        return {name: value for name, value in found.items() if not name.startswith("estimated_")}


def described(answer: StateAnswer, wrote: bool, run: dict[str, Any]) -> str:
    """The answer in the words of the table."""
    words = [str(201 if wrote else 200), answer.status.value]
    words.append(f"{answer.state.type}/{answer.state.name}" if answer.state else "None/None")
    if wrote:
        words += [name for name in TIMES if run["state"]["state_details"][name]]
        policy = run["empirical_policy"]
        words += [policy[name] for name in ("retry_type",) if policy.get(name)]
        words += [f"keys={'+'.join(policy['pause_keys'])}"] if policy.get("pause_keys") else []
    return " ".join(words)


def differing(expected: str, situation: str, proposal: str, before: dict[str, Any]) -> str:
    """What ours answers where Prefect's server answers ``expected``."""
    name, force = proposal.rstrip("!"), proposal.endswith("!")
    current = before["state"]
    kind = FACTS["flow" if "deployment_id" in before else "task"]["proposals"][name]["type"]
    if current and current["type"] in OVER and kind in OVER and expected.startswith("201"):
        if not force or "deferred" in name:
            return f"200 REJECT {current['type']}/{current['name']}"
        return expected
    if situation == "cancelled before its retry" and proposal == "RUNNING":
        return "200 ABORT CANCELLED/Cancelled"
    if kind == "SCHEDULED" and not (current and current["type"] == kind):
        return expected.replace("in_process", "reschedule")
    return expected


@pytest.mark.parametrize(("kind", "situation"), SITUATIONS)
async def test_b5_proposals_are_answered_as_by_prefect(memory: World, kind: str, situation: str) -> None:
    facts = FACTS[kind]
    arounds: Iterable[str] = ("alone", "deployment") if kind == "flow" else ("alone", "flow")
    wrong = []
    for around in arounds:
        stage = Stage(memory, kind, around)
        await stage.begin()
        answers = facts["answers"][situation]
        for expected, proposals in answers.get("both", answers.get(around)).items():
            for proposal in proposals:
                run = await stage.run(facts["situations"][situation])
                before = await stage.look(run)
                shape = facts["proposals"][proposal.rstrip("!")]
                answer, wrote = await stage.propose(run, shape, force=proposal.endswith("!"))
                after = await stage.look(run)
                assert answer.details.type == f"{answer.status.value.lower()}_details"
                assert wrote or after == before
                said = described(answer, wrote, after)
                meant = differing(expected, situation, proposal, before)
                if said != meant:
                    wrong.append((around, proposal, said, meant))
    assert wrong == []
