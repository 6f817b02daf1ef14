"""How long a worker waits for a server that does not answer (row W19)."""

from __future__ import annotations

import pytest

from eparch.workers import reporting
from eparch.workers.reporting import pause_after


@pytest.mark.parametrize("roll", [0.0, 0.999])
def test_w19_the_pause_grows_to_half_a_minute_and_is_spread(roll, monkeypatch):
    monkeypatch.setattr(reporting.random, "random", lambda: roll)
    pauses = [pause_after(attempt) for attempt in (1, 2, 3, 6, 20, 10_000)]
    assert pauses == sorted(pauses)
    assert 0.2 < pauses[0] < 1.0
    assert 14 < pauses[-1] <= 30


def test_w19_workers_that_lost_one_server_do_not_come_back_at_once():
    assert len({pause_after(8) for _ in range(50)}) > 25
