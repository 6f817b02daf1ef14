"""Events: what happened to a resource, and which of them somebody wants to hear (wire 4.2, 4.3, 4.6)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from eparch.core.model import Body, Json, Timestamp, Value, encode, new_id
from eparch.core.text_search import text_search

T = TypeVar("T")

ResourceLabels = dict[str, str]
"""Labels of a resource: ``prefect.resource.id`` names it, a related one has ``prefect.resource.role`` too."""


class Event(Value, frozen=True, kw_only=True):
    """Something that happened (wire: ``Event``)."""

    occurred: Timestamp
    event: Annotated[str, Meta(min_length=1, max_length=1024)]
    resource: ResourceLabels
    related: list[ResourceLabels] = []
    payload: dict[str, Json] = {}
    id: UUID = msgspec.field(default_factory=new_id)
    follows: UUID | None = None


class ReceivedEvent(Event, frozen=True, kw_only=True):
    """An event with the time at which the server had it."""

    received: Timestamp


def resource_id(labels: ResourceLabels) -> str:
    """The id that ``labels`` name, empty when none."""
    return labels.get("prefect.resource.id", "")


def flaw(event: Event) -> str:
    """What an event lacks that whoever reads events relies on; empty when nothing."""
    if not resource_id(event.resource):
        return "The resource of an event needs the label `prefect.resource.id`."
    for labels in event.related:
        if not resource_id(labels) or not labels.get("prefect.resource.role"):
            return "Each related resource needs the labels `prefect.resource.id` and `prefect.resource.role`."
    return ""


class OccurredFilter(Body, frozen=True, kw_only=True):
    """When."""

    since: Timestamp | None = None
    until: Timestamp | None = None


class NameFilter(Body, frozen=True, kw_only=True):
    """What."""

    prefix: list[str] | None = None
    exclude_prefix: list[str] | None = None
    name: list[str] | None = None
    exclude_name: list[str] | None = None

    def admits(self, name: str) -> bool:
        """Whether an event called ``name`` passes."""
        if self.prefix and not any(name.startswith(p) for p in self.prefix):
            return False
        if self.exclude_prefix and any(name.startswith(p) for p in self.exclude_prefix):
            return False
        if self.name and name not in self.name:
            return False
        return not (self.exclude_name and name in self.exclude_name)


class ResourceFilter(Body, frozen=True, kw_only=True):
    """About whom: by id, id prefix or labels (a label value may end in ``*`` or be a list of choices)."""

    id: list[str] | None = None
    id_prefix: list[str] | None = None
    labels: dict[str, str | list[str]] | None = None
    distinct: bool = False

    def admits(self, labels: ResourceLabels) -> bool:
        """Whether the resource with ``labels`` passes."""
        own = resource_id(labels)
        if self.id and own not in self.id:
            return False
        if self.id_prefix and not any(own.startswith(p) for p in self.id_prefix):
            return False
        return all(_label_matches(labels.get(key), want) for key, want in (self.labels or {}).items())


class RelatedFilter(Body, frozen=True, kw_only=True):
    """About whom else."""

    id: list[str] | None = None
    role: list[str] | None = None
    resources_in_roles: list[tuple[str, str]] | None = None
    labels: dict[str, str | list[str]] | None = None

    def admits(self, labels: ResourceLabels) -> bool:
        """Whether a related resource with ``labels`` passes."""
        role = labels.get("prefect.resource.role", "")
        own = resource_id(labels)
        if self.id and own not in self.id:
            return False
        if self.role and role not in self.role:
            return False
        if self.resources_in_roles and (own, role) not in self.resources_in_roles:
            return False
        return all(_label_matches(labels.get(key), want) for key, want in (self.labels or {}).items())


class AnyResourceFilter(Body, frozen=True, kw_only=True):
    """About whom, the resource itself or a related one."""

    id: list[str] | None = None
    id_prefix: list[str] | None = None
    labels: dict[str, str | list[str]] | None = None

    def admits(self, labels: ResourceLabels) -> bool:
        """Whether a resource with ``labels`` passes."""
        return ResourceFilter(id=self.id, id_prefix=self.id_prefix, labels=self.labels).admits(labels)


class IdFilter(Body, frozen=True, kw_only=True):
    """Which."""

    id: list[UUID] | None = None


class TextFilter(Body, frozen=True, kw_only=True):
    """Whose text contains it."""

    query: Annotated[str, Meta(max_length=200)]

    def admits(self, event: Event) -> bool:
        """Whether the name, a label's value or the payload of ``event`` has the words."""
        wanted = text_search(self.query)
        if not any(wanted):
            return True
        labels = [value for labels in (event.resource, *event.related) for value in labels.values()]
        return wanted.admits(" ".join((event.event, *labels, encode(event.payload).decode())))


class EventFilter(Body, frozen=True, kw_only=True):
    """Which events (wire: ``EventFilter``); all parts must admit an event."""

    occurred: OccurredFilter = msgspec.field(default_factory=OccurredFilter)
    event: NameFilter | None = None
    resource: ResourceFilter | None = None
    related: RelatedFilter | list[RelatedFilter] | None = None
    any_resource: AnyResourceFilter | list[AnyResourceFilter] | None = None
    id: IdFilter = msgspec.field(default_factory=IdFilter)
    text: TextFilter | None = None
    order: str = "DESC"

    def admits(self, event: Event) -> bool:
        """Whether ``event`` passes, its time aside: a live subscriber wants what is to come."""
        if self.id.id and event.id not in self.id.id:
            return False
        if self.event is not None and not self.event.admits(event.event):
            return False
        if self.resource is not None and not self.resource.admits(event.resource):
            return False
        if not all(any(part.admits(r) for r in event.related) for part in _listed(self.related)):
            return False
        if self.text is not None and not self.text.admits(event):
            return False
        everyone = [event.resource, *event.related]
        return all(any(part.admits(r) for r in everyone) for part in _listed(self.any_resource))

    def admits_time(self, occurred: datetime) -> bool:
        """Whether an event of that time passes."""
        since, until = self.occurred.since, self.occurred.until
        return (since is None or occurred >= since) and (until is None or occurred <= until)


def _listed(value: T | list[T] | None) -> list[T]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _label_matches(value: str | None, want: str | list[str]) -> bool:
    if value is None:
        return False
    choices = want if isinstance(want, list) else [want]
    return any(value.startswith(c[:-1]) if c.endswith("*") else value == c for c in choices)
