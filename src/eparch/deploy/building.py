"""Build and push steps: run once each, however many deployments share them (row D8).

Owns which steps are the same. What a step does is in ``eparch.steps``; pull steps never run here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from eparch.core.errors import StepFailed
from eparch.core.model import Json, encode
from eparch.core.templates import Kind, lookup_in, placeholders, render, unresolved
from eparch.deploy.steps import Step

if TYPE_CHECKING:
    from eparch.steps.runner import References

_OUTPUTS = frozenset({Kind.OUTPUT})


class Builder:
    """The steps that ran for one command, and what came out of them."""

    def __init__(self, root: Path, tell: Callable[[str], None], references: References | None = None) -> None:
        """Steps start in ``root``; what they print goes to ``tell``, line by line.

        ``references`` are the variables that they can name.
        """
        self.root, self.tell, self.references = root, tell, references
        self._done: dict[bytes, dict[str, Json]] = {}

    def run(self, section: str, steps: list[Step], outputs: dict[str, Json]) -> dict[str, Json]:
        """``outputs`` and those of ``steps``; a step that ran with the same arguments does not run again.

        Raises:
            StepFailed: a step failed; the message begins with its place in the file.
        """
        before = Path.cwd()
        try:
            os.chdir(self.root)
            for step in steps:
                outputs = {**outputs, **self._outputs(section, step, outputs)}
        finally:
            os.chdir(before)
        return outputs

    def _outputs(self, section: str, step: Step, outputs: dict[str, Json]) -> dict[str, Json]:
        from eparch.steps.runner import run_steps

        stored = step.stored()
        filled = render(stored, lookup_in(outputs), unset="keep", kinds=_OUTPUTS, unescape=False)
        key = encode([filled, str(Path.cwd())])
        if key not in self._done:
            self.tell(f"{section}: {step.function}")
            try:
                self._done[key] = run_steps(
                    [stored],
                    upstream=_needed(stored, outputs),
                    on_output=self.tell,
                    references=self.references,
                )
            except StepFailed as error:
                what = error.message.removeprefix("Step 1 ")
                message = f"{step.position}: {section} step {what}"
                raise StepFailed(message, why=error.why, fix=error.fix) from error
        return self._done[key]


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
