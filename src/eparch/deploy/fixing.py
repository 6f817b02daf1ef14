"""``eparch deploy --fix``: keys that stand where nothing reads them are moved to where they belong.

Owns which key belongs where when there is no doubt (real-files 3.2 and 3.3), and the proof that a change says
what the file meant: every change is read again and compared with the same change made to the values. What
cannot be proved is left as it is; so is a key whose place is taken.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eparch.core.errors import SourceErrors
from eparch.core.model import Json
from eparch.core.step_names import canonical, is_deprecated
from eparch.core.templates import Path, placeholders
from eparch.deploy.findings import is_blank
from eparch.deploy.grammar import SCHEDULE_KINDS, SECTIONS
from eparch.deploy.source import Document, parse
from eparch.deploy.text_edits import STEP, Edit, Lines, apply_edits, wrap
from eparch.deploy.tolerance import OF_SCHEDULE

_POOL = "work_pool"
_VARIABLES: Path = (_POOL, "job_variables")
_PASSES = 100
_NAMES = {_POOL: "name", "concurrency_limit": "limit"}
"""What a text means that stands where a mapping can."""

MOVES: tuple[tuple[Path, Path], ...] = (
    (("pool",), (_POOL, "name")),
    (("work_pool_name",), (_POOL, "name")),
    (("work_queue_name",), (_POOL, "work_queue_name")),
    (("work_queue",), (_POOL, "work_queue_name")),
    (("job_variables",), _VARIABLES),
    (("infra_overrides",), _VARIABLES),
    (("image",), (*_VARIABLES, "image")),
    (("environment",), (*_VARIABLES, "env")),
    (("env",), (*_VARIABLES, "env")),
    ((_POOL, "queue"), (_POOL, "work_queue_name")),
    ((_POOL, "work_queue"), (_POOL, "work_queue_name")),
    ((_POOL, "flow_variables"), _VARIABLES),
    ((_POOL, "image"), (*_VARIABLES, "image")),
    ((_POOL, "env"), (*_VARIABLES, "env")),
    ((_POOL, "concurrency_limit"), ("concurrency_limit",)),
    ((_POOL, "schedules"), ("schedules",)),
    (("concurrency",), ("concurrency_limit",)),
    (("concurrency_options",), ("concurrency_limit",)),
    (("flow_location",), ("entrypoint",)),
    (("is_paused",), ("paused",)),
)
"""Where a key of a deployment is written, and where it belongs."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the text, and the same change of the values: what is taken away, and what is set."""

    edits: list[Edit]
    gone: tuple[Path, ...] = ()
    made: tuple[tuple[Path, Json], ...] = ()


def fix(text: str, file: str = "prefect.yaml") -> str:
    """``text`` with its misplaced keys where they belong; the same text if there are none.

    Raises:
        SourceErrors: it is no YAML.
    """
    if "\r\n" in text:
        return fix(text.replace("\r\n", "\n"), file).replace("\n", "\r\n")
    for _ in range(_PASSES):
        document = parse(text, file)
        changes = list(_changes(document))
        changed = _applied(document, changes)
        if changed is None:
            for change in changes:
                changed = _applied(document, [change])
                if changed is not None:
                    break
        if changed is None or changed == text:
            return text
        text = changed
    return text


def _applied(document: Document, changes: list[Change]) -> str | None:
    """The text after ``changes``; None if there are none, or it does not say the same as the values do."""
    if not changes:
        return None
    text = apply_edits(Lines(document).lines, [edit for change in changes for edit in change.edits])
    expected = copy.deepcopy(document.data)
    for change in changes:
        for path in change.gone:
            _drop(expected, path)
        for path, value in change.made:
            _set(expected, path, value)
    try:
        return text if parse(text, document.file).data == expected else None
    except SourceErrors:
        return None


def _changes(document: Document) -> Iterator[Change]:
    """At most one change for each deployment, and for each step: so that they do not overlap."""
    data = document.data
    if not isinstance(data, dict):
        return
    lines = Lines(document)
    for section in SECTIONS:
        yield from _of_steps(lines, data.get(section), (section,))
    items = data.get("deployments")
    seen: set[tuple[int, int]] = set()
    for index, item in enumerate(items if isinstance(items, list) else ()):
        span = document.span(("deployments", index))
        if not isinstance(item, dict) or span is None or span.value in seen:
            continue
        seen.add(span.value)
        change = next(_of_deployment(lines, item, ("deployments", index)), None)
        if change is not None:
            yield change


def _of_deployment(lines: Lines, item: dict[str, Json], at: Path) -> Iterator[Change]:
    for section in SECTIONS:
        yield from list(_of_steps(lines, item.get(section), (*at, section)))[:1]
    yield from _old_schedule(lines, item, at)
    for source, target in (*MOVES, *_into_schedule(item)):
        value = _find(item, source)
        if value is not None and (change := _move(lines, item, at, source, target)) is not None:
            yield change
    yield from _listed_environment(lines, item, at)


def _into_schedule(item: dict[str, Json]) -> list[tuple[Path, Path]]:
    """Keys of a schedule that stand in the deployment, and the one schedule that they can mean."""
    found = item.get("schedules")
    kinds = [kind for kind in SCHEDULE_KINDS if item.get(kind) is not None]
    if isinstance(found, list) and len(found) == 1 and isinstance(found[0], dict) and not kinds:
        target: Path = ("schedules", 0)
    elif is_blank(found) and is_blank(item.get("schedule")) and len(kinds) == 1 and found != []:
        return [((kinds[0],), ("schedules", 0, kinds[0]))]
    else:
        return []
    own = [((key,), (*target, key)) for key in OF_SCHEDULE]
    return [*own, (("time_zone",), (*target, "timezone")), (("is_schedule_active",), (*target, "active"))]


def _old_schedule(lines: Lines, item: dict[str, Json], at: Path) -> Iterator[Change]:
    """``schedule`` as ``schedules``: a list of one."""
    old, here = item.get("schedule"), (*at, "schedule")
    if is_blank(old) or not is_blank(item.get("schedules")) or item.get("schedules") == []:
        return
    column, place = lines.column(at), lines.entry(here)
    if column is None or place is None:
        return
    written = lines.value(here)
    if isinstance(old, list):
        new = lines.renamed(here, "schedules", column)
    elif isinstance(old, str) and not placeholders(old):
        old = {"cron": old}
        below = f"{' ' * (column + STEP)}- cron: {written}\n"
        new = [f"{' ' * column}schedules:\n", below] if written else None
    elif written is not None:
        new = lines.renamed(here, "schedules", column)
        _, tail = lines.around(here, written)
        if new is not None:
            new = [f"{new[0].removesuffix(written + tail)}[{written}]{tail}", *new[1:]]
    else:
        children = lines.children(here, column + 2 * STEP)
        head = lines.renamed(here, "schedules", column)
        new = [head[0], *_dashed(children, column + STEP)] if children and head else None
    if new is None:
        return
    made = old if isinstance(old, list) else [old]
    edits = _in_place(lines, here, new)
    gone: list[Path] = [here]
    if "schedules" in item:
        removed = lines.remove((*at, "schedules"))
        if removed is None:
            return
        edits += removed
        gone.append((*at, "schedules"))
    yield Change(edits, tuple(gone), (((*at, "schedules"), made),))


def _dashed(below: list[str], column: int) -> list[str]:
    """The lines ``below`` with a dash at ``column``, before the first that is no comment."""
    first = next(number for number, line in enumerate(below) if line.strip() and line.strip()[0] != "#")
    line = below[first]
    return [*below[:first], f"{line[:column]}- {line[column + STEP :]}", *below[first + 1 :]]


def _move(lines: Lines, item: dict[str, Json], at: Path, source: Path, target: Path) -> Change | None:
    """The change that brings ``source`` to ``target``; it may take several, of which this is the next."""
    value, there = _find(item, source), _find(item, target)
    if not _fits(value, target):
        return None
    if there is not None and there != {}:
        return _merge(lines, item, at, source, target)
    known = target[:-1]
    while known and is_blank(_find(item, known)):
        known = known[:-1]
    left, parent = target[len(known) :], (*at, *known)
    prepared = _prepare(lines, item, at, known)
    if prepared is not None:
        return prepared
    made = (((*at, *target), value),)
    gone = ((*at, *source),)
    column = lines.column(parent)
    if column is None:
        return _move_to_flow(lines, parent, at, source, left, Change([], gone, made))
    in_place = source[:-1] == known
    inner = column + STEP * (len(left) - 1)
    new = lines.renamed((*at, *source), str(left[-1]), inner, lead=not in_place)
    if new is None:
        return None
    new = wrap(left[:-1], new, column)
    empty = (*parent, left[0])
    taken = lines.remove(empty) if lines.document.span(empty) is not None else []
    if taken is None or any("#" in line for first, last, _ in taken for line in lines.lines[first:last]):
        return None  # what is empty may be replaced, a comment on it may not
    if in_place:
        return Change([*_in_place(lines, (*at, *source), new), *taken], gone, made)
    removed, added = lines.remove((*at, *source)), lines.append(parent, new)
    if removed is None or added is None:
        return None
    return Change([*removed, *taken, *added], gone, made)


def _fits(value: Json, target: Path) -> bool:
    """Whether ``value`` can be meant for ``target``."""
    if target == _VARIABLES:
        return isinstance(value, dict)
    if target[-1] == "env":
        return isinstance(value, dict | list)
    if target == ("entrypoint",):
        return isinstance(value, str) and ".py:" in value
    return target[0] != _POOL or isinstance(value, str | int | float)


def _move_to_flow(
    lines: Lines, parent: Path, at: Path, source: Path, left: Path, change: Change
) -> Change | None:
    """The change for a mapping that is written in braces, which stays so."""
    written, removed = lines.value((*at, *source)), lines.remove((*at, *source))
    if written is None or removed is None or not all(isinstance(key, str) for key in left):
        return None
    pair = "".join(f"{key}: {{" for key in left[:-1]) + f"{left[-1]}: {written}" + "}" * (len(left) - 1)
    added = lines.insert_flow(parent, pair)
    return None if added is None else Change([*removed, *added], change.gone, change.made)


def _merge(lines: Lines, item: dict[str, Json], at: Path, source: Path, target: Path) -> Change | None:
    """The change that adds the keys of one mapping to another that has none of them."""
    value, there = _find(item, source), _find(item, target)
    here = (*at, *source)
    if value == {}:
        removed = lines.remove(here)
        return None if removed is None else Change(removed, (here,))
    if not isinstance(there, dict) and target[-1] in _NAMES and isinstance(value, dict):
        return None if _NAMES[str(target[-1])] in value else _prepare(lines, item, at, target)
    if not isinstance(value, dict) or not isinstance(there, dict) or value.keys() & there.keys():
        return None
    prepared = _prepare(lines, item, at, target) or _prepare(lines, item, at, source)
    if prepared is not None:
        return prepared
    column = lines.column((*at, *target))
    new = None if column is None else lines.children(here, column, lead=True)
    removed = lines.remove(here)
    added = None if new is None else lines.append((*at, *target), new)
    if removed is None or added is None:
        return None
    return Change([*removed, *added], (here,), (((*at, *target), {**there, **value}),))


def _prepare(lines: Lines, item: dict[str, Json], at: Path, known: Path) -> Change | None:
    """The change that writes the first of ``known`` as a block that is not one; None if all are."""
    for length in range(1, len(known) + 1):
        part = known[:length]
        span, value = lines.document.span((*at, *part)), _find(item, part)
        if span is None or isinstance(part[-1], int) or isinstance(value, list):
            continue
        if lines.column((*at, *part)) is not None:
            continue
        name = _NAMES.get(str(part[-1]))
        if span.is_scalar and name is None:
            continue
        edits = lines.unfold((*at, *part), name or "")
        if edits is None:
            return None
        made = ((((*at, *part), {name: value}),)) if span.is_scalar else ()
        return Change(edits, (), made)
    return None


def _listed_environment(lines: Lines, item: dict[str, Json], at: Path) -> Iterator[Change]:
    """``env`` as Kubernetes writes it, a list of names and values, as a mapping."""
    here = (*at, *_VARIABLES, "env")
    listed, place, span = _find(item, (*_VARIABLES, "env")), lines.entry(here), lines.document.span(here)
    if not isinstance(listed, list) or not listed or place is None or span is None or span.is_alias:
        return
    pairs: dict[str, Json] = {}
    new = [f"{lines.lines[place[0]][: span.column]}env:\n"]
    for index, one in enumerate(listed):
        written = lines.value((*here, index, "value"))
        if not isinstance(one, dict) or set(one) != {"name", "value"} or written is None:
            return
        pairs[str(one["name"])] = one["value"]
        new.append(f"{' ' * (span.column + STEP)}{lines.value((*here, index, 'name'))}: {written}\n")
    comments = any("#" in line for line in lines.lines[place[0] : place[1]])
    if len(pairs) == len(listed) and not comments:
        yield Change([(*place, new)], (), ((here, pairs),))


def _of_steps(lines: Lines, value: Json, at: Path) -> Iterator[Change]:
    """Steps by the names of today, their arguments below the name."""
    for index, step in enumerate(value if isinstance(value, list) else ()):
        if not isinstance(step, dict) or not step:
            continue
        written, *others = step
        here = (*at, index, written)
        span, place = lines.document.span(here), lines.entry(here)
        if span is None or place is None:
            continue
        if is_deprecated(written) and canonical(written) not in step:
            line = lines.lines[place[0]]
            new = line[: span.column] + canonical(written) + line[span.column + span.key[1] - span.key[0] :]
            renamed = {canonical(key) if key == written else key: one for key, one in step.items()}
            yield Change([(place[0], place[0] + 1, [new])], (), (((*at, index), renamed),))
        elif others and step[written] is None and "." in written:
            change = _indented(lines, here, others, step)
            if change is not None:
                yield change


def _indented(lines: Lines, here: Path, others: list[str], step: dict[str, Json]) -> Change | None:
    edits: list[Edit] = []
    column = lines.column(here[:-1])
    for key in others:
        place = lines.entry((*here[:-1], key))
        new = None if column is None else lines.renamed((*here[:-1], key), key, column + STEP)
        if place is None or new is None:
            return None
        edits.append((*place, new))
    return Change(edits, (), ((here[:-1], {here[-1]: {key: step[key] for key in others}}),))


def _in_place(lines: Lines, path: Path, new: list[str]) -> list[Edit]:
    """The edit that puts ``new`` where the key at ``path`` is, behind its dash if it has one."""
    place, span = lines.entry(path), lines.document.span(path)
    assert place is not None
    assert span is not None
    dash = lines.lines[place[0]][: span.column]
    return [(*place, [dash + new[0][span.column :], *new[1:]])]


def _find(item: Json, path: Path) -> Json:
    for key in path:
        if isinstance(item, dict):
            item = item.get(str(key))
        elif isinstance(item, list) and isinstance(key, int) and key < len(item):
            item = item[key]
        else:
            return None
    return item


def _drop(data: Json, path: Path) -> None:
    parent = _find(data, path[:-1])
    if isinstance(parent, dict):
        parent.pop(str(path[-1]), None)


def _set(data: Json, path: Path, value: Json) -> None:
    """Set the value at ``path``; what is missing on the way is made."""
    there: Any = data
    for number, key in enumerate(path[:-1]):
        following: Json = [] if isinstance(path[number + 1], int) else {}
        if isinstance(there, list):
            if key == len(there):
                there.append(following)
        elif is_blank(there.get(key)):
            there[key] = following
        there = there[key]
    there[path[-1]] = value
