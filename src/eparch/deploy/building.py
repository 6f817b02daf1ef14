"""Build and push steps: run once each, however many deployments share them, and side by side (row D8).

Owns which steps are the same and which may run at the same time. What a step does is in ``eparch.steps``;
pull steps never run here.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from eparch.core.errors import EparchError, StepFailed
from eparch.core.model import Json, encode
from eparch.core.step_names import SHIPPED
from eparch.core.templates import Kind, lookup_in, placeholders, render, unresolved
from eparch.deploy.steps import Step

if TYPE_CHECKING:
    from eparch.steps.runner import References

AT_ONCE = 4
"""Deployments whose steps run at the same time."""

Outputs = dict[str, Json]
Chain = Sequence[tuple[str, Step]]
"""The steps of one deployment in order, each with its section."""

Watch = Callable[[tuple[str, ...]], None]
"""Takes the names of the steps that run now, whenever that changes; called from several threads."""

_OUTPUTS = frozenset({Kind.OUTPUT})
_ALONE = ("set_working_directory", "pip_install_requirements")
"""Steps that change what the others see."""


class Builder:
    """The steps that ran for one command, and what came out of them."""

    def __init__(
        self,
        root: Path,
        tell: Callable[[str], None],
        references: References | None = None,
        *,
        watch: Watch | None = None,
        install: bool = True,
    ) -> None:
        """Steps start in ``root``; what they print goes to ``tell``, line by line.

        ``references`` are the variables that they can name. ``watch`` is told which steps run. Without
        ``install`` nothing that they require is installed.
        """
        self.root, self.references = root, references
        self._tell, self._watch, self._install = tell, watch, install
        self._done: dict[bytes, Future[Outputs]] = {}
        self._running: list[str] = []
        self._lock = threading.RLock()
        self._failed = threading.Event()
        self._parallel = False

    def run(self, chains: Sequence[Chain]) -> list[Outputs]:
        """What came out of each chain; a step with the same arguments runs once for all of them.

        Chains run side by side if all of their steps are shipped ones. A function of somebody's own may
        change this process, so that with one of them everything runs in the order of the file.

        Raises:
            StepFailed: a step failed; the message begins with its place in the file. No other began then.
        """
        self._parallel = len(chains) > 1 and all(_is_apart(step) for chain in chains for _, step in chain)
        before = Path.cwd()
        try:
            os.chdir(self.root)
            return self._side_by_side(chains) if self._parallel else [self._chain(one) for one in chains]
        finally:
            os.chdir(before)

    def _side_by_side(self, chains: Sequence[Chain]) -> list[Outputs]:
        waiting = list(enumerate(chains))[::-1]
        results: list[Future[Outputs]] = [Future() for _ in chains]

        def work() -> None:
            while True:
                with self._lock:
                    if not waiting:
                        return
                    number, chain = waiting.pop()
                _settle(results[number], partial(self._chain, chain))

        # Daemons: who interrupts a build does not want to wait for its end.
        for _ in range(min(AT_ONCE, len(chains))):
            threading.Thread(target=work, name="steps", daemon=True).start()
        faults = [fault for one in results if (fault := one.exception()) is not None]
        if faults:
            raise next((one for one in faults if not isinstance(one, _Skipped)), faults[0])
        return [one.result() for one in results]

    def _chain(self, chain: Chain) -> Outputs:
        outputs: Outputs = {}
        for section, step in chain:
            outputs = {**outputs, **self._outputs(section, step, outputs)}
        return outputs

    def _outputs(self, section: str, step: Step, outputs: Outputs) -> Outputs:
        stored = step.stored()
        filled = render(stored, lookup_in(outputs), unset="keep", kinds=_OUTPUTS, unescape=False)
        key = encode([filled, str(Path.cwd())])
        with self._lock:
            known = None if step.arguments.get("ignore_cache") is True else self._done.get(key)
            mine: Future[Outputs] = Future()
            if known is None:
                self._done[key] = mine
        if known is None:
            _settle(mine, lambda: self._run(section, step, stored, outputs))
            known = mine
        return known.result()

    def _run(self, section: str, step: Step, stored: Outputs, outputs: Outputs) -> Outputs:
        from eparch.steps.runner import run_steps

        if self._failed.is_set():
            raise _Skipped("Another step failed before this one began")
        label = f"{step.id or step.function.rpartition('.')[2]}:{step.position.line}"
        begun = time.monotonic()
        self._say(f"{section}: {step.function}", label)
        self._set_running(label, True)
        try:
            made = run_steps(
                [stored],
                upstream=_needed(stored, outputs),
                on_output=lambda line: self._say(line, label),
                references=self.references,
                install=self._install,
            )
        except StepFailed as error:
            self._failed.set()
            what = error.message.removeprefix("Step 1 ")
            message = f"{step.position}: {section} step {what}"
            raise StepFailed(message, why=error.why, fix=error.fix) from error
        finally:
            self._set_running(label, False)
        if self._parallel:
            self._say(f"done in {time.monotonic() - begun:.1f} s", label)
        return made

    def _say(self, line: str, label: str) -> None:
        """Tell a line; where steps run side by side, whose it is."""
        with self._lock:
            self._tell(f"[{label}] {line}" if self._parallel else line)

    def _set_running(self, label: str, runs: bool) -> None:
        with self._lock:
            (self._running.append if runs else self._running.remove)(label)
            if self._watch is not None:
                self._watch(tuple(self._running))


class _Skipped(EparchError):
    """A step that did not begin, because another one failed."""


def _settle(future: Future[Outputs], do: Callable[[], Outputs]) -> None:
    try:
        future.set_result(do())
    except BaseException as error:
        future.set_exception(error)


def _is_apart(step: Step) -> bool:
    return step.function in SHIPPED and not step.function.endswith(_ALONE)


def known_names(outputs: dict[str, Json]) -> list[str]:
    """Every name that a placeholder may have for ``outputs``."""
    below = [f"{key}.{name}" for key, value in outputs.items() if isinstance(value, dict) for name in value]
    return [*outputs, *below]


def _needed(stored: dict[str, Json], outputs: dict[str, Json]) -> dict[str, Json]:
    """Those of ``outputs`` that the step names; all of them where one is missing, for a better message."""
    if unresolved(stored, lookup_in(outputs), _OUTPUTS):
        return outputs
    names = [found.name for found in placeholders(stored) if found.kind is Kind.OUTPUT]
    return {
        key: value
        for key, value in outputs.items()
        if any(name == key or name.startswith((f"{key}.", f"{key}[")) for name in names)
    }
