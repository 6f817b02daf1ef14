"""Asking again while whoever is asked is away. Owns the pauses only."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from eparch.core.errors import EparchError

T = TypeVar("T")

logger = logging.getLogger("eparch.worker")

_PAUSE = (0.1, 5.0)
"""Seconds before the second attempt, and at most before a later one."""


def patiently(ask: Callable[[], T], seconds: float, away: type[EparchError]) -> T:
    """What is answered; ``away`` is waited out for ``seconds``.

    Raises:
        EparchError: it refuses, or stays away.
    """
    end, pause = time.monotonic() + seconds, _PAUSE[0]
    while True:
        try:
            return ask()
        except away as error:
            if time.monotonic() + pause > end:
                raise
            logger.warning("%s, it is asked again: %s", error, error.why)
            time.sleep(pause)
            pause = min(pause * 2, _PAUSE[1])
