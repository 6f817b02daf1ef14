"""A few cells of the fault matrix; ``make faults`` tries them all, for as long as it is told (W15-W17)."""

from __future__ import annotations

from tests.faults.matrix import cells, deal, run_matrix, table

SMALL = [
    ("claimed, answer under way", "message lost"),
    ("handle stored", "kill -9 workers"),
    ("running is answered", "message lost"),
    ("user code runs", "kill -9 worker, holder, job"),
    ("finish is proposed", "kill -9 server"),
]


def test_w15_w16_w17_nothing_is_started_twice_lost_stuck_leaked_or_left():
    assert set(SMALL) <= set(cells())
    dealt = deal(7, ["sqlite", "postgresql"], SMALL)
    assert sorted(cell for some in dealt.values() for cell in some) == sorted(SMALL)
    found = run_matrix(180, 7, dealt, rounds=1)
    assert len(found) == len(SMALL)
    assert [(cell, one.seeds) for cell, one in found.items() if one.wrong] == []
    assert sum(one.starts for one in found.values()) > 0
    # Whatever was not started was killed before it began, and says so.
    assert sum(one.starts + one.crashed for one in found.values()) >= sum(one.runs for one in found.values())
    assert "| 5 | 5 of " in table(found, 1.0, 7)
