"""Delays, backoff and jitter as functions of values."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as some

import eparch
from eparch.core.errors import Usage
from eparch.sdk.retries import delay_before, delays_of, exponential_backoff, jittered
from eparch.sdk.text import printable


def test_b2_exponential_backoff_doubles() -> None:
    assert exponential_backoff(3)(4) == [3, 6, 12, 24]
    assert delays_of(exponential_backoff(0.5), 3) == [0.5, 1.0, 2.0]
    with pytest.raises(Usage):
        exponential_backoff(-1)


@given(some.lists(some.floats(0, 1e6), min_size=1, max_size=50), some.integers(0, 200))
def test_b2_the_last_delay_stands_for_all_later_ones(delays: list[float], attempt: int) -> None:
    assert delay_before(attempt, delays) == (delays[attempt] if attempt < len(delays) else delays[-1])


@given(some.floats(0, 1e6), some.floats(0, 10), some.floats(0, 1, exclude_max=True))
def test_b2_jitter_stays_within_its_factor(delay: float, factor: float, uniform: float) -> None:
    spread = jittered(delay, factor, uniform)
    assert delay * max(0.0, 1 - factor) * 0.999999 <= spread <= delay * (1 + factor) * 1.000001


@pytest.mark.parametrize("wrong", ["5", -1, float("inf"), float("nan"), True, [1, "x"], [0] * 51])
def test_what_is_no_delay_is_refused(wrong: object) -> None:
    with pytest.raises(Usage):
        delays_of(wrong, 3)


@given(some.text(some.characters()), some.integers(20, 60))
def test_printable_text_can_be_encoded_and_is_bounded(text: str, most: int) -> None:
    shown = printable(text, most)
    shown.encode()
    assert "\x00" not in shown
    assert len(shown) <= most


def test_every_public_name_is_there() -> None:
    assert all(getattr(eparch, name) is not None for name in eparch.__all__)
    assert set(eparch.__all__) <= set(dir(eparch))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = eparch.nothing


def test_the_package_alone_imports_nothing_of_its_own() -> None:
    code = "import sys, eparch; print([m for m in sys.modules if m.startswith('eparch.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['eparch.version']"
