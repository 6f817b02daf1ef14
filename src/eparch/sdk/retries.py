"""When a task is tried again: delays, backoff and jitter as functions of values (row B2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from eparch.core.errors import Usage

MAX_RETRIES_LISTED = 50
"""How many delays a callable is asked for; more are the last one again."""

Delays = float | list[float]


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """Delays that double: ``factor, 2 * factor, 4 * factor ...`` seconds.

    Raises:
        Usage: the factor is negative.
    """
    if backoff_factor < 0:
        raise Usage("The backoff factor is negative.", fix="Give a number of seconds, 0 or more.")

    def delays(retries: int) -> list[float]:
        return [backoff_factor * max(1, 2**n) for n in range(retries)]

    return delays


def delays_of(given: object, retries: int) -> Delays:
    """The delays that ``retry_delay_seconds`` means, in seconds.

    Raises:
        Usage: a delay is not a number of seconds, or there are more than ``MAX_RETRIES_LISTED``.
    """
    value = given(min(retries, MAX_RETRIES_LISTED)) if callable(given) else given
    if value is None:
        return 0
    listed = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if len(listed) > MAX_RETRIES_LISTED:
        raise Usage(f"A task can have at most {MAX_RETRIES_LISTED} retry delays, not {len(listed)}.")
    for delay in listed:
        if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay < math.inf:
            raise Usage(
                f"{delay!r} is not a retry delay.", fix="Give seconds, a list of seconds or a function."
            )
    numbers = [delay for delay in listed if isinstance(delay, int | float)]
    return numbers if isinstance(value, Sequence) else numbers[0]


def delay_before(attempt: int, delays: Delays) -> float:
    """Seconds to wait before retry number ``attempt``, from 0; the last delay stands for all later ones."""
    if isinstance(delays, list):
        return delays[min(attempt, len(delays) - 1)] if delays else 0.0
    return delays


def jittered(delay: float, factor: float, uniform: float) -> float:
    """``delay`` spread over an exponential distribution, cut so that it is at most ``1 + factor`` times it.

    ``uniform`` is a random number in [0, 1); the mean stays ``delay``.
    """
    upper = 1.0 + factor
    lower = max(0.0, 1.0 - factor)
    drawn = -math.log(max(1.0 - uniform, 1e-12))
    return delay * min(max(drawn, lower), upper)
