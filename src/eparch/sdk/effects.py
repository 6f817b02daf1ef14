"""What the engine asks for: effects as values.

The engine yields them, a driver performs them and sends the reply back. No effect performs itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from eparch.core.states import StateCreate


class Effect:
    """Something to be done for the engine."""

    __slots__ = ()
    blocks: ClassVar[bool] = False
    """Whether performing it may wait, so that an event loop must not do it itself."""


@dataclass(slots=True)
class Propose(Effect):
    """Ask the server for a state. Reply: ``StateAnswer``."""

    blocks: ClassVar[bool] = True
    state: StateCreate


@dataclass(slots=True)
class Record(Effect):
    """Enter a state that was decided here, and report it. Reply: the ``State`` with its id and time."""

    state: StateCreate


@dataclass(slots=True)
class Stamp(Effect):
    """Make a state of a proposal without entering it. Reply: the ``State`` with an id and the time."""

    state: StateCreate


@dataclass(slots=True)
class Call(Effect):
    """Call a function. Reply: what it returns; what it raises is raised."""

    fn: Callable[..., Any]
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    """Seconds after which ``TimedOut`` is raised in it."""
    expired: bool = False
    """Set by the driver when it was this call's own timeout that ended it."""


@dataclass(slots=True)
class Occupy(Effect):
    """Take a slot of each limit on the run's tags, waiting for it. No reply."""

    blocks: ClassVar[bool] = True


@dataclass(slots=True)
class Vacate(Effect):
    """Give back what ``Occupy`` took. No reply."""

    blocks: ClassVar[bool] = True


@dataclass(slots=True)
class Rename(Effect):
    """Give the run another name."""

    blocks: ClassVar[bool] = True
    name: str


@dataclass(slots=True)
class Await(Effect):
    """Wait until futures are done. No reply."""

    blocks: ClassVar[bool] = True
    futures: Sequence[Any]


@dataclass(slots=True)
class Settle(Effect):
    """Wait until all that was submitted by this run is over; drop what has not begun when ``drop``.

    What is not over after ``timeout`` seconds is given up and recorded as crashed.
    """

    blocks: ClassVar[bool] = True
    drop: bool
    timeout: float | None = None


@dataclass(slots=True)
class Flush(Effect):
    """Wait until the server has recorded every task state and log line of this process.

    At most ``timeout`` seconds, when there is one.
    """

    blocks: ClassVar[bool] = True
    timeout: float | None = None


@dataclass(slots=True)
class Sleep(Effect):
    """Wait until ``until``, or for ``seconds``."""

    until: datetime | None = None
    seconds: float = 0.0
    most: float | None = None
    """Seconds after which it is over in any case: ``until`` is by the server's clock, ours may be behind."""


@dataclass(slots=True)
class Now(Effect):
    """Reply: the time, UTC."""


@dataclass(slots=True)
class Draw(Effect):
    """Reply: a random number in [0, 1)."""


@dataclass(slots=True)
class Log(Effect):
    """Write a line to the run's log."""

    level: int
    message: str
    error: BaseException | None = None
