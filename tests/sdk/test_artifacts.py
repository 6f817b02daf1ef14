"""Artifacts of runs."""

from __future__ import annotations

import json

import pytest
from tests.sdk.conftest import Ledger

from eparch import create_link_artifact, create_markdown_artifact, create_table_artifact, flow, task
from eparch.core.errors import Usage


def test_b11_artifacts_belong_to_the_run_that_makes_them(ledger: Ledger) -> None:
    inner = task(lambda: create_table_artifact([{"a": 1, "b": float("nan")}], key="rows"))
    main = flow(
        lambda: [
            create_markdown_artifact("# hi", key="hello", description="greets"),
            create_link_artifact("https://example.org", "a [link]"),
            inner(),
        ]
    )
    main()
    markdown, link, table = ledger.artifacts
    run = ledger.only_run()
    assert (markdown.type, markdown.data, markdown.key, markdown.description) == (
        *("markdown", "# hi", "hello", "greets"),
    )
    assert (markdown.flow_run_id, markdown.task_run_id) == (run.id, None)
    assert link.data == "[a \\[link\\]](https://example.org)"
    assert table.type == "table"
    assert json.loads(table.data) == [{"a": 1, "b": None}]
    assert table.task_run_id is not None


@pytest.mark.parametrize("key", ["Upper", "with space", "under_score", "", "-", "a--b", "x" * 256])
def test_keys_that_cannot_be_are_refused(ledger: Ledger, key: str) -> None:
    with pytest.raises(Usage, match="cannot be the key"):
        create_markdown_artifact("text", key=key)
    assert ledger.artifacts == []


def test_hostile_text_is_spelt_out(ledger: Ledger) -> None:
    create_markdown_artifact("nul \x00 lone \ud800")
    assert ledger.artifacts[0].data == "nul \\x00 lone \\ud800"
    with pytest.raises(Usage, match="characters"):
        create_markdown_artifact("x" * 1_000_001)
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(Usage, match="JSON"):
        create_table_artifact(circle)  # type: ignore[arg-type]
