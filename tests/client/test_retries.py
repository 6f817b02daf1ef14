"""The rules of sending again."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from eparch.client.retries import Fault, Retries, retry_after_of

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def ask(policy, fault, *, idempotent=True, attempt=1, elapsed=0.0, roll=1.0):
    return policy.delay(fault, idempotent=idempotent, attempt=attempt, elapsed=elapsed, roll=roll)


def test_delays_double_up_to_the_most():
    policy = Retries(attempts=6, first=0.5, most=4, total=1000)
    delays = [ask(policy, Fault(sent=True), attempt=n) for n in range(1, 8)]
    assert delays == [0.5, 1, 2, 4, 4, 4, None]


@given(st.integers(1, 50), st.floats(0, 100), st.floats(0, 1, exclude_max=True), st.booleans(), st.booleans())
def test_delay_is_jittered_and_bounded(attempt, elapsed, roll, sent, idempotent):
    policy = Retries(attempts=20, first=0.1, most=5, total=30)
    delay = ask(policy, Fault(sent=sent), idempotent=idempotent, attempt=attempt, elapsed=elapsed, roll=roll)
    if attempt > 20 or (sent and not idempotent):
        assert delay is None
    elif delay is None:
        assert elapsed + 5 > 30
    else:
        assert 0 <= delay <= min(5, 0.1 * 2 ** (attempt - 1))
        assert elapsed + delay <= 30


def test_what_may_have_been_acted_on_is_repeated_only_when_harmless():
    assert ask(Retries(), Fault(sent=True), idempotent=False) is None
    assert ask(Retries(), Fault(sent=True), idempotent=True) is not None
    assert ask(Retries(), Fault(sent=False), idempotent=False) is not None


def test_server_that_is_not_there_can_be_told_at_once():
    assert ask(Retries(connect=False), Fault(connected=False)) is None
    assert ask(Retries(connect=False), Fault(connected=True)) is not None


@given(st.floats(0, 100), st.floats(0, 100))
def test_retry_after_is_taken_as_it_is_or_not_waited_for(asked, elapsed):
    delay = ask(Retries(total=60), Fault(retry_after=asked), elapsed=elapsed, roll=0.3)
    assert delay == (asked if elapsed + asked <= 60 else None)


def test_retry_after_header():
    assert retry_after_of(None, NOW) is None
    assert retry_after_of("1.5", NOW) == 1.5
    assert retry_after_of("-3", NOW) == 0
    assert retry_after_of("Sun, 22 Nov 2026 12:00:10 GMT", NOW) == 10
    assert retry_after_of("Sun, 22 Nov 2026 11:00:00 GMT", NOW) == 0
    assert retry_after_of("soon", NOW) is None
    assert retry_after_of("nan", NOW) is None
    assert retry_after_of("inf", NOW) is None


@given(st.text(max_size=40))
def test_any_header_is_seconds_or_nothing(header):
    found = retry_after_of(header, NOW)
    assert found is None or found >= 0
