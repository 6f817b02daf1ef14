"""What the wire says of a decision (4.1)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.core.proposals import (
    NOW,
    T,
    a_flow,
    a_state,
    to,
)

from eparch.core.decisions import answer_of
from eparch.core.model import decode, encode
from eparch.core.transitions import (
    Facts,
    decide,
)

# What the wire says of a decision.


def test_wire41_answers() -> None:
    pending = a_state(T.PENDING)
    run = a_flow(pending)
    accept = answer_of(decide(run, to(T.RUNNING), Facts(), NOW), pending)
    assert decode(encode(accept))["status"] == "ACCEPT"
    assert accept.details.type == "accept_details"
    abort = answer_of(decide(run, to(T.PENDING), Facts(), NOW), pending)
    assert (abort.status, abort.details.type, abort.state) == ("ABORT", "abort_details", pending)
    early = a_flow(a_state(T.PENDING, scheduled_time=NOW + timedelta(seconds=9)))
    wait: dict[str, Any] = decode(encode(answer_of(decide(early, to(T.RUNNING), Facts(), NOW), early.state)))
    assert (wait["status"], wait["details"]["delay_seconds"]) == ("WAIT", 9)
    paused = a_flow(a_state(T.PENDING))
    reject = answer_of(decide(paused, to(T.PAUSED), Facts(), NOW), paused.state)
    assert (reject.status, reject.details.type, reject.state) == ("REJECT", "reject_details", paused.state)
    written_ = answer_of(decide(a_flow(a_state(T.SCHEDULED)), to(T.CANCELLING), Facts(), NOW), pending)
    assert written_.state is not None
    assert written_.state.type is T.CANCELLED
