"""The answers to the wizard in a file: what it may hold, each answer with its place, and how it is written.

Owns no question; what fits is asked of the question itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from eparch.core.errors import SourceErrors, Usage
from eparch.core.model import Json
from eparch.deploy.findings import Findings, as_text, kind_of
from eparch.deploy.source import Document
from eparch.deploy.wizard import NONE, Answer, Key, Question
from eparch.deploy.writing import write_mapping

FLAGS = ("push", "registry_private", "private", "save")
TEXTS = (
    "flow",
    "name",
    "pool",
    "pool_type",
    "image",
    "image_name",
    "image_tag",
    "registry",
    "registry_credentials",
    "storage",
    "repository",
    "branch",
    "token",
    "bucket",
    "folder",
    "credentials",
)
OF_SCHEDULE = ("kind", "cron", "interval", "rrule", "timezone")


class Answers:
    """The answers in a file."""

    def __init__(self, document: Document) -> None:
        """Reads them.

        Raises:
            SourceErrors: unknown keys and values that no question could have; all of them.
        """
        self.document = document
        self.values: dict[Key, Answer] = {}
        findings = Findings(document)
        data = document.data
        if not isinstance(data, dict):
            raise SourceErrors([document.error((), f"Answers are a mapping, not {kind_of(data)}")])
        self.schedules = data.get("schedules")
        findings.check_keys(data, (), (*TEXTS, *FLAGS, "schedules"), {}, "A file of answers")
        self._read(data, (), findings)
        items = self.schedules if isinstance(self.schedules, list) else []
        if self.schedules is not None and not isinstance(self.schedules, list):
            findings.error(("schedules",), f"'schedules' must be a list, not {kind_of(self.schedules)}")
        for index, item in enumerate(items):
            if isinstance(item, dict):
                path = ("schedules", index)
                findings.check_keys(item, path, OF_SCHEDULE, {}, "The answers of a schedule")
                self._read(item, path, findings)
            else:
                findings.error(("schedules", index), f"A schedule is a mapping, not {kind_of(item)}")
        if findings.errors:
            raise SourceErrors(sorted(findings.errors, key=lambda error: (error.line, error.column)))

    def _read(self, values: dict[str, Json], path: Key, findings: Findings) -> None:
        for key, value in values.items():
            where = (*path, key)
            if key == "schedules" and not path:
                continue
            if isinstance(value, dict | list) or value is None:
                findings.error(where, f"'{key}' must be one value, not {kind_of(value)}")
            elif key in FLAGS and not path:
                if isinstance(value, bool):
                    self.values[where] = value
                else:
                    findings.error(where, f"'{key}' must be true or false, not {kind_of(value)}")
            else:
                self.values[where] = as_text(value, self.document, where)

    def answer(self, question: Question, otherwise: Callable[[Question], Answer] | None) -> Answer:
        """The answer to ``question``; ``otherwise`` is asked for those that are not in the file.

        Raises:
            SourceErrors: the answer does not fit.
            Usage: it is not there, and nobody can be asked.
        """
        key = question.key
        found = self.values.get(key)
        if (
            found is None
            and key[0] == "schedules"
            and key[-1] == "kind"
            and len(self._items()) <= int(key[1])
        ):
            return NONE
        if found is None and otherwise is not None:
            return otherwise(question)
        name = ".".join(str(part) for part in key)
        if found is None:
            words = "true or false" if question.is_flag else "a text"
            if question.choices:
                words = "one of " + ", ".join(choice.value for choice in question.choices)
            raise Usage(
                f"{self.document.file} does not answer '{name}'.",
                why=f"The question is: {question.text}",
                fix=f"Add '{key[-1]}:' with {words}.",
            )
        problem = question.problem(found)
        if problem:
            raise SourceErrors([self.document.error(key, f"'{name}' cannot be used: {problem}")])
        return found

    def _items(self) -> list[Any]:
        return self.schedules if isinstance(self.schedules, list) else []


def write_answers(given: Iterable[tuple[Key, Answer]]) -> str:
    """The text of a file that gives these answers again."""
    top: dict[str, Any] = {}
    schedules: list[dict[str, Any]] = []
    for key, answer in given:
        if key[0] != "schedules":
            top[str(key[0])] = answer
        elif answer != NONE:
            if key[-1] == "kind":
                schedules.append({})
            schedules[int(key[1])][str(key[-1])] = answer
    save = {"save": top.pop("save")} if "save" in top else {}
    head = "# Answers to 'eparch deploy --answers FILE'.\n"
    return head + "".join(write_mapping({**top, "schedules": schedules, **save}))
