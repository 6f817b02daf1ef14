"""What the templates of an action see: the event, its resources, the automation, runs and deployments.

Owns how they are presented (names as in Prefect). Does not own how they are read, nor what a template may do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from eparch.core.action_sandbox import Extended
from eparch.core.automations import Firing, TriggeredAction
from eparch.core.events import ReceivedEvent, ResourceLabels, resource_id

KINDS = ("deployment", "flow", "flow_run", "task_run", "work_pool", "work_queue", "concurrency_limit")
"""Names that stand for an object which a resource of the event names."""

_PAGES = {
    "prefect.flow": "flows/flow/{id}",
    "prefect.flow-run": "runs/flow-run/{id}",
    "prefect.task-run": "runs/task-run/{id}",
    "prefect.block-document": "blocks/block/{id}",
    "prefect.work-pool": "work-pools/work-pool/{id}",
    "prefect.work-queue": "work-queues/work-queue/{id}",
    "prefect.concurrency-limit": "concurrency-limits/concurrency-limit/{id}",
    "prefect.deployment": "deployments/deployment/{id}",
    "prefect.automation": "automations/automation/{id}",
    "prefect.event": "events/event/{day}/{id}",
}
_FLOW_RUN = re.compile(r"flow-run/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


def plain(value: Any) -> Any:
    """``value`` as dictionaries and lists; times, durations and ids stay what they are."""
    return msgspec.to_builtins(value, builtin_types=(datetime, timedelta, UUID), str_keys=True)


class Object(Extended):
    """A record of the server."""

    def __init__(self, kind: str, fields: Mapping[str, Any]) -> None:
        """``kind`` is that of its resource."""
        super().__init__(fields)
        self.kind = kind


class Labels(Extended):
    """Labels as a tree: ``labels.prefect.resource.id``; what is at a node is its text."""

    def __init__(self, labels: Mapping[str, str], at: str = "") -> None:
        """``at`` is the name of the node, empty at the root."""
        prefix = f"{at}." if at else ""
        super().__init__(
            {key.removeprefix(prefix): value for key, value in labels.items() if key.startswith(prefix)}
        )
        self.text = labels.get(at, "") if at else ""

    def more(self, name: str) -> Any:
        """The node below."""
        if not any(key.startswith(f"{name}.") for key in self):
            raise KeyError(name)
        return Labels(self, name)

    def __str__(self) -> str:
        return self.text


class Resource(Extended):
    """The resource of an event: its labels, and the names for some of them."""

    def more(self, name: str) -> Any:
        """``id``, ``name``, ``role``, or all ``labels``."""
        if name == "labels":
            return Labels(self)
        if name in ("id", "name", "role"):
            return self.get(f"prefect.resource.{name}")
        raise KeyError(name)

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The kind in its id."""
        return resource_id(self).rpartition(".")[0]


class Happening(Extended):
    """An event."""

    kind = "prefect.event"

    def __init__(self, event: ReceivedEvent, ui_url: str = "") -> None:
        """``ui_url`` is that of the web page, if there is one."""
        fields = plain(event)
        fields["resource"] = Resource(event.resource)
        fields["related"] = [Resource(labels) for labels in event.related]
        super().__init__(fields)
        self._ui_url = ui_url

    def more(self, name: str) -> Any:
        """The resources by their roles, the URL of its page."""
        related: list[Resource] = self["related"]
        if name == "involved_resources":
            return [self["resource"], *related]
        if name == "resource_in_role":
            return {one.more("role"): one for one in reversed(related)}
        if name == "resources_in_role":
            roles = dict.fromkeys(one.more("role") for one in related)
            return {role: [one for one in related if one.more("role") == role] for role in roles}
        if name == "url":
            return page_of(self, self._ui_url)
        raise KeyError(name)


def page_of(value: Any, ui_url: str) -> str | None:
    """The URL of the web page about ``value``; None when it has none."""
    if not ui_url or not isinstance(value, Extended):
        return None
    form = _PAGES.get(value.kind)
    if form is None:
        return None
    id_ = resource_id(value).rpartition(".")[2] if isinstance(value, Resource) else value.get("id", "")
    id_ = value["name"] if isinstance(value, Object) and value.kind == "prefect.work-pool" else id_
    day = value["occurred"].strftime("%Y-%m-%d") if isinstance(value, Happening) else ""
    return f"{ui_url.rstrip('/')}/{form.format(id=id_, day=day)}"


def events_page_of(value: Any, ui_url: str) -> str | None:
    """The URL of the web page with the events of ``value``; None when it has none."""
    if not ui_url or not isinstance(value, Extended) or not value.kind:
        return None
    about = resource_id(value) if isinstance(value, Resource) else f"{value.kind}.{value.get('id')}"
    return f"{ui_url.rstrip('/')}/events?resource={about}"


def flow_run_id(text: str | None) -> str | None:
    """The id of the flow run whose URL is in ``text``; None: there is none."""
    found = _FLOW_RUN.search(text or "")
    return found[1] if found else None


def filters_for(ui_url: str) -> dict[str, Callable[..., Any]]:
    """The filters that Prefect adds to Jinja's, for a web page at ``ui_url``."""
    return {
        "ui_url": lambda value: page_of(value, ui_url),
        "ui_resource_events_url": lambda value: events_page_of(value, ui_url),
        "flow_run_id": flow_run_id,
    }


def context_of(triggered: TriggeredAction, ui_url: str = "") -> dict[str, Any]:
    """What every template of the action sees; objects of the server come on top."""
    event = triggered.triggering_event
    firings = list(_firings(triggered.firing))
    return {
        "automation": Object("prefect.automation", plain(triggered.automation)),
        "event": Happening(event, ui_url) if event is not None else None,
        "labels": Labels(triggered.triggering_labels),
        "firing": _shown(triggered.firing, ui_url),
        "firings": [_shown(firing, ui_url) for firing in firings],
        "events": [
            Happening(firing.triggering_event, ui_url)
            for firing in firings
            if firing.triggering_event is not None
        ],
    }


def _shown(firing: Firing, ui_url: str) -> Extended:
    shown = Extended(plain(firing))
    if firing.triggering_event is not None:
        shown["triggering_event"] = Happening(firing.triggering_event, ui_url)
    return shown


def _firings(firing: Firing) -> Iterator[Firing]:
    yield firing
    for inner in firing.triggering_firings:
        yield from _firings(inner)


def involved(event: ReceivedEvent | None, kind: str) -> ResourceLabels | None:
    """The first resource of ``kind`` (``prefect.flow-run``) that the event is about."""
    if event is None:
        return None
    for labels in (event.resource, *event.related):
        if resource_id(labels).rpartition(".")[0] == kind:
            return labels
    return None


def id_in(labels: ResourceLabels | None) -> UUID | None:
    """The UUID in the id of a resource; None when it has none."""
    try:
        return UUID(resource_id(labels or {}).rpartition(".")[2])
    except ValueError:
        return None
