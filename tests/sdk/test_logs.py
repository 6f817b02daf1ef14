"""Logs of runs: whose a line is, what it says, and that it never harms."""

from __future__ import annotations

import builtins
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.sdk.conftest import Ledger

from eparch import flow, get_run_logger, task
from eparch.core import calls
from eparch.core.errors import Unreachable, Usage
from eparch.core.records import MAX_MESSAGE


def texts(ledger: Ledger) -> list[str]:
    return [line.message for line in ledger.lines]


def test_lines_belong_to_the_run_that_wrote_them(ledger: Ledger) -> None:
    @task
    def work() -> None:
        get_run_logger().warning("in %s", "task")

    @flow
    def main() -> None:
        get_run_logger().info("in flow")
        work.submit().wait()

    main()
    by_text = {line.message: line for line in ledger.lines}
    run = ledger.only_run()
    assert by_text["in flow"].flow_run_id == run.id
    assert by_text["in flow"].task_run_id is None
    assert by_text["in task"].flow_run_id == run.id
    assert by_text["in task"].task_run_id is not None
    assert (by_text["in task"].level, by_text["in task"].name) == (logging.WARNING, "eparch.task_runs")


def test_they_are_sent_before_the_final_state(ledger: Ledger) -> None:
    seen: list[list[str]] = []

    def watch(call: Any) -> None:
        if call.endpoint is calls.set_flow_run_state and call.body.state.name == "Completed":
            seen.append(texts(ledger))

    ledger.before = watch
    flow(lambda: get_run_logger().info("last words"))()
    assert "last words" in seen[0]


def test_prints_become_lines_in_every_thread_of_the_run_and_only_there(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    say = task(lambda n: print("say", n, sep="-"), name="say")
    hush = task(lambda n: print("hush", n), name="hush", log_prints=False)

    @flow(log_prints=True)
    def main() -> None:
        print("flow", "prints")
        print("aside", file=sys.__stderr__)
        say.map(range(5)).wait()
        hush.submit(1).wait()

    main()
    print("outside")
    assert {"flow prints", *(f"say-{n}" for n in range(5))} <= set(texts(ledger))
    assert not {"aside", "hush 1", "outside"} & set(texts(ledger))
    assert "hush 1\noutside\n" in capsys.readouterr().out
    assert builtins.print("") is None


def test_runs_beside_each_other_do_not_mix(ledger: Ledger) -> None:
    speak = flow(lambda word: [print(word) for _ in range(20)], log_prints=True, name="speak")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(speak, "abcd"))
    by_run: dict[Any, set[str]] = {}
    for line in ledger.lines:
        if len(line.message) == 1:
            by_run.setdefault(line.flow_run_id, set()).add(line.message)
    assert sorted(map(sorted, by_run.values())) == [["a"], ["b"], ["c"], ["d"]]


def test_hostile_text_is_spelt_out(ledger: Ledger) -> None:
    flow(lambda: get_run_logger().info("nul \x00 lone \ud800 long " + "x" * MAX_MESSAGE))()
    (line,) = [text for text in texts(ledger) if text.startswith("nul")]
    assert line.startswith("nul \\x00 lone \\ud800 long xxx")
    assert line.endswith("characters]")
    assert len(line) == MAX_MESSAGE


def test_a_broken_line_harms_nobody(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    assert flow(lambda: get_run_logger().info("%d", "text") or 1)() == 1


def test_a_traceback_begins_in_the_users_code(ledger: Ledger) -> None:
    def broken() -> None:
        raise KeyError("deep")

    with pytest.raises(KeyError):
        flow(broken)()
    (text,) = [text for text in texts(ledger) if "Traceback" in text]
    assert text.count("File ") == 1
    assert "in broken" in text
    assert text.endswith("KeyError: 'deep'")


def test_an_upload_that_fails_never_fails_a_run(ledger: Ledger) -> None:
    def down(call: Any) -> None:
        if call.endpoint is calls.create_logs:
            raise Unreachable("away")

    ledger.before = down
    assert flow(lambda: get_run_logger().info("lost") or 5)() == 5
    assert ledger.names()[-1] == "Completed"


def test_the_level_of_the_settings_holds(ledger: Ledger) -> None:
    logging.getLogger("eparch").setLevel(logging.WARNING)
    flow(lambda: [get_run_logger().info("quiet"), get_run_logger().warning("loud")])()
    assert texts(ledger) == ["loud"]


def test_there_is_no_run_logger_outside_of_a_run() -> None:
    with pytest.raises(Usage, match="no run to log for"):
        get_run_logger()


def test_the_terminal_sees_the_name_of_the_run(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    flow(lambda: get_run_logger().info("hello"))()
    assert "| INFO    | Flow run 'run-0' - hello\n" in capsys.readouterr().err
