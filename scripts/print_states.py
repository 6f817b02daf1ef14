"""Print docs/states.md from the table of transitions: ``python scripts/print_states.py > docs/states.md``.

Owns the prose and the layout of that page. Every rule in it comes from ``eparch.core.transitions.TABLE``.
"""

from __future__ import annotations

import sys

from eparch.core.cases import always
from eparch.core.states import FINAL, StateType
from eparch.core.transitions import TABLE, From, Kind, Rule, rules_for

HEAD = """\
# States

<!-- Printed by scripts/print_states.py from src/eparch/core/transitions.py. Do not edit. -->

A run is in one state at a time; its history holds all of them. A state has a *type*, one of nine, and a
*name* that says more: a `SCHEDULED` run may be `Late`, `AwaitingRetry` or `Resuming`.

Somebody proposes a state: the run's process, a worker, a person, the watchdog. The server decides:

| answer | what is written | what the proposer does |
| --- | --- | --- |
| ACCEPT | the proposed state, completed by the rules | goes on |
| REJECT | nothing, or another state that the rule names | takes the state in the answer as the run's |
| WAIT | nothing | proposes it again after `delay_seconds` |
| ABORT | nothing | stops |

The rules below are tried in order. The first that answers wins; one without an answer rewrites the
proposal and lets it pass. When none answers, the proposal is accepted. `force` leaves only the rules marked
*forced*: it bypasses what is prudent, never what keeps a run from being started twice.
"""

AFTER = """\
## What every write does

- **Claim.** `PENDING` takes the claim of a flow run: who may start it, until when, and a fencing token.
  The claim stays while the run may have a process: `PENDING`, `RUNNING`, `CANCELLING`, `PAUSED` without
  being suspended, and `AwaitingRetry` after a failure in the same process. Any other state releases it.
- **Slot.** The slot of the deployment's concurrency limit is kept and released with the claim. Its lease id
  is the server's: it is carried from state to state whatever the client sends, and dropped on release.
- **Tags.** A task run releases the slots of its tags in every state but `RUNNING` and `CANCELLING`.
- **Attempts.** `RUNNING` counts one attempt, unless the run goes on after a pause.
- **Time.** A state is never older than the one before it.

## When time runs out

The watchdog proposes these states; they go through the rules like any other.

| what | becomes |
| --- | --- |
| `PENDING`, and its claim's lease lapsed | `SCHEDULED` for its old time |
| `RUNNING`, paused in its process or waiting there for a retry, and the lease lapsed | `CRASHED` |
| `CANCELLING`, and the lease lapsed | `CANCELLED` |
| `CANCELLING` for 300 seconds | `CANCELLED` |
| `PAUSED` past its timeout | `FAILED` |
| `Scheduled` for a time 15 seconds ago, or more | `Late` |
"""

LABELS = {
    "SCHEDULED": "due later, or now",
    "PENDING": "claimed, not begun",
    "RUNNING": "runs",
    "PAUSED": "waits to be resumed",
    "CANCELLING": "was asked to stop",
}


def closed_by(kind: Kind, from_: From, to: StateType) -> Rule | None:
    """The rule that refuses every such transition, None when there may be one."""
    for rule in rules_for(kind, from_, to):
        if rule.when is always and rule.answers:
            return rule
    return None


def _edges(
    kind: Kind, sources: list[StateType], inside: list[StateType]
) -> tuple[list[str], list[StateType]]:
    """The arrows among ``inside``, and the states outside that every one of ``sources`` may reach."""
    among = [
        f"        {from_} --> {to}"
        for from_ in sources
        for to in inside
        if to is not from_ and closed_by(kind, from_, to) is None
    ]
    outside = [to for to in StateType if to not in inside]
    shared = [to for to in outside if all(closed_by(kind, from_, to) is None for from_ in sources)]
    return among, shared


def diagram(kind: Kind) -> list[str]:
    """A mermaid diagram of the transitions that may be accepted, with two boxes: Unfinished and Ended.

    What every state of a box may become is drawn once, from the box.
    """
    boxes: dict[str, list[StateType]] = {
        "Unfinished": [t for t in StateType if t not in FINAL and t is not StateType.CANCELLING],
        "Ended": [t for t in StateType if t in FINAL],
    }
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f"    {type_} : {type_} ({text})" for type_, text in LABELS.items()]
    drawn: set[tuple[StateType, StateType]] = set()
    arrows: list[str] = []
    for box, members in boxes.items():
        among, shared = _edges(kind, members, members)
        entries = [f"        {type_}" for type_ in members]
        if box == "Unfinished":
            entries = [f"        [*] --> {to}" for to in members if closed_by(kind, None, to) is None]
        lines += [
            f"    state {box} {{",
            *entries,
            *among,
            "    }",
        ]
        arrows += [f"    {box} --> {to}" for to in shared]
        drawn |= {(from_, to) for from_ in members for to in [*members, *shared]}
    for from_ in StateType:
        for to in StateType:
            if to is not from_ and (from_, to) not in drawn and closed_by(kind, from_, to) is None:
                arrows.append(f"    {from_} --> {to}")
    return [*lines, *arrows, "```"]


def matrix(kind: Kind) -> list[str]:
    """For every pair of types: ``yes`` when it may be accepted, else the number of the rule that refuses."""
    numbers = {rule.name: number for number, rule in enumerate(TABLE, 1)}
    lines = ["| from \\ to | " + " | ".join(StateType) + " |", "| --- |" + " --- |" * len(StateType)]
    starts: tuple[From, ...] = (None, *StateType)
    for from_ in starts:
        refused = [closed_by(kind, from_, to) for to in StateType]
        cells = ["yes" if rule is None else f"no ({numbers[rule.name]})" for rule in refused]
        lines.append(f"| {from_ or '*new*'} | " + " | ".join(cells) + " |")
    return lines


def _types(types: frozenset[StateType] | frozenset[From]) -> str:
    groups = {"final": FINAL, "unfinished": frozenset(StateType) - FINAL}
    for name, group in groups.items():
        if types == group:
            return name
    missing = [type_ for type_ in StateType if type_ not in types]
    if not missing:
        return "any" if None in types else "any, not new"
    if len(missing) <= 4:
        suffix = "" if None in types else ", new"
        return "any but " + ", ".join(missing) + suffix
    named = [type_.value for type_ in StateType if type_ in types]
    return ", ".join([*(["new"] if None in types else []), *named])


def _condition(rule: Rule) -> str:
    said = (rule.when.__doc__ or "").rstrip(".")
    return said[:1].lower() + said[1:]


def rows() -> list[str]:
    """The table of rules."""
    lines = [
        "| # | rule | runs | from | to | when | answer | why | source |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for number, rule in enumerate(TABLE, 1):
        condition = "" if rule.when is always else _condition(rule)
        name = f"`{rule.name}`" + (" *forced*" if rule.forced else "")
        to = _types(rule.to).replace(", not new", "").replace(", new", "")
        answer = " or ".join(rule.answers) or "(rewrites)"
        kinds = ", ".join(rule.kinds)
        lines.append(
            f"| {number} | {name} | {kinds} | {_types(rule.from_)} | {to} | {condition} | {answer} "
            f"| {rule.summary} | {rule.source} |"
        )
    return lines


def page() -> str:
    """The whole of docs/states.md."""
    parts = [HEAD]
    for kind, title in (("flow", "Flow runs"), ("task", "Task runs")):
        which: Kind = "flow" if kind == "flow" else "task"
        parts.append("\n".join([f"## {title}", "", *diagram(which), "", *matrix(which), ""]))
    parts.append("\n".join(["## Rules", "", *rows(), ""]))
    parts.append(AFTER)
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
