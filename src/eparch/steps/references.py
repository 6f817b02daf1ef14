"""What ``{{ prefect.variables... }}`` stands for: the variables that the server keeps (row B11).

Owns reading them, and what is said of one that is not there. Blocks are refused: the server keeps none.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from eparch.core import calls
from eparch.core.calls import Call
from eparch.core.errors import NotFound, StepFailed, did_you_mean

T = TypeVar("T")

HINTED = 200
"""Names that are looked at for the nearest one."""


class Sender(Protocol):
    """What is needed of a client."""

    def send(self, call: Call[T]) -> T:
        """Send a call and return its answer."""


class ServerReferences:
    """The variables of a server, each read once (``runner.References``)."""

    def __init__(self, client: Sender) -> None:
        """``client`` talks to the server."""
        self._client = client
        self._known: dict[str, Any] = {}

    def block(self, name: str) -> Any:
        """Refuse the block.

        Raises:
            StepFailed: always.
        """
        raise StepFailed(
            f"The block '{name}' cannot be read here",
            why="the server keeps no blocks",
            fix="use a variable, or an environment variable: {{ $NAME }}",
        )

    def variable(self, name: str) -> Any:
        """The value of the variable.

        Raises:
            NotFound: there is none; the nearest name is suggested.
            EparchError: the server cannot be asked.
        """
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def _read(self, name: str) -> Any:
        try:
            return self._client.send(calls.read_variable_by_name(name=name)).value
        except NotFound as error:
            known = self._client.send(calls.read_variables(body={"limit": HINTED}))
            hint = did_you_mean(name, [one.name for one in known])
            raise NotFound(
                f"There is no variable '{name}'.", fix=hint or f"Make it: eparch variable set {name} VALUE"
            ) from error
