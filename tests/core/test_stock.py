"""What the ``User-Agent`` of a client says (wire section 1)."""

from __future__ import annotations

import pytest

from eparch.core.stock import renews_slots, stock_version, takes_slots


@pytest.mark.parametrize(
    ("agent", "version"),
    [
        ("prefect/3.9.1 (API 0.8.4)", (3, 9, 1)),
        ("prefect/3.4.11", (3, 4, 11)),
        ("prefect/3.5.0.dev1+g12 (API 0.8.4)", (3, 5, 0)),
        ("prefect/3.4", None),
        ("prefect/3.4.", None),
        ("prefect/99999999999999.1.1", None),
        ("eparch/0.1.0", None),
        ("curl/8.0 prefect/3.9.1", None),
        ("", None),
        (None, None),
    ],
)
def test_the_version_of_a_stock_client(agent: str | None, version: tuple[int, int, int] | None) -> None:
    assert stock_version(agent) == version


@pytest.mark.parametrize(
    ("version", "renews", "takes"),
    [
        (None, False, False),
        ((2, 20, 0), False, False),
        ((3, 0, 0), False, True),
        ((3, 0, 3), False, True),
        ((3, 0, 4), False, False),
        ((3, 4, 10), False, False),
        ((3, 4, 11), True, False),
        ((3, 9, 1), True, False),
    ],
)
def test_wire45_who_takes_and_who_renews_slots(
    version: tuple[int, int, int] | None, renews: bool, takes: bool
) -> None:
    assert (renews_slots(version), takes_slots(version)) == (renews, takes)
