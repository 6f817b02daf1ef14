"""``Automation``, triggers and actions in code (row B12); the values are those of ``core``.

Owns how they are written in Python: sets, durations and members of enumerations are taken where the wire has
lists, seconds and texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from eparch.core import automation_actions as actions
from eparch.core import automations as values
from eparch.core import calls
from eparch.core.automation_documents import typed_trigger
from eparch.core.errors import Invalid, NotFound
from eparch.core.model import encode
from eparch.sdk.either import either
from eparch.sdk.session import current

T = TypeVar("T")


class Kind(Generic[T]):
    """A kind of trigger or action: called with its fields it makes a checked value of ``core``."""

    def __init__(self, kind: type[T]) -> None:
        """``kind`` is a struct with a tag."""
        self.kind = kind
        self.__name__ = kind.__name__
        self.__doc__ = kind.__doc__

    def __call__(self, **fields: Any) -> T:
        """The value.

        Raises:
            Invalid: a field is missing, unknown or of another kind.
        """
        given = _plain(fields)
        tag = self.kind.__struct_config__.tag  # type: ignore[attr-defined]
        unknown = given.keys() - set(self.kind.__struct_fields__) - {"type"}  # type: ignore[attr-defined]
        if unknown:
            raise Invalid(f"{self.__name__} has no field {sorted(unknown)[0]!r}.")
        wanted = typed_trigger({**given, "type": tag}) if self._is_trigger else {**given, "type": tag}
        try:
            return msgspec.convert(wanted, self.kind, strict=False)
        except msgspec.ValidationError as error:
            raise Invalid(f"{self.__name__} cannot be made: {error}") from error

    @property
    def _is_trigger(self) -> bool:
        return self.__name__.endswith("Trigger")

    def __instancecheck__(self, value: object) -> bool:
        return isinstance(value, self.kind)

    def __repr__(self) -> str:
        return f"<{self.__name__}>"


def _plain(value: Any) -> Any:
    """``value`` as JSON would have it."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (UUID, datetime)):
        return msgspec.to_builtins(value)
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(item) for item in value)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_plain(item) for item in value]
    return value


class Posture(Enum):
    """Whether a trigger waits for something to happen, not to happen, or for a number."""

    Reactive = "Reactive"
    Proactive = "Proactive"
    Metric = "Metric"


EventTrigger = Kind(values.EventTrigger)
MetricTrigger = Kind(values.MetricTrigger)
CompoundTrigger = Kind(values.CompoundTrigger)
SequenceTrigger = Kind(values.SequenceTrigger)

DoNothing = Kind(actions.DoNothing)
RunDeployment = Kind(actions.RunDeployment)
PauseDeployment = Kind(actions.PauseDeployment)
ResumeDeployment = Kind(actions.ResumeDeployment)
CancelFlowRun = Kind(actions.CancelFlowRun)
DeleteFlowRun = Kind(actions.DeleteFlowRun)
SuspendFlowRun = Kind(actions.SuspendFlowRun)
ResumeFlowRun = Kind(actions.ResumeFlowRun)
ChangeFlowRunState = Kind(actions.ChangeFlowRunState)
PauseWorkPool = Kind(actions.PauseWorkPool)
ResumeWorkPool = Kind(actions.ResumeWorkPool)
PauseWorkQueue = Kind(actions.PauseWorkQueue)
ResumeWorkQueue = Kind(actions.ResumeWorkQueue)
PauseAutomation = Kind(actions.PauseAutomation)
ResumeAutomation = Kind(actions.ResumeAutomation)
SendNotification = Kind(actions.SendNotification)
CallWebhook = Kind(actions.CallWebhook)

_OF_DEPLOYMENT = ("name", "description", "enabled", "parameters", "job_variables", "schedule_after")


class DeploymentKind:
    """A kind of trigger that goes with a deployment: what ``triggers`` of ``deploy`` and ``serve`` take."""

    def __init__(self, kind: Kind[Any]) -> None:
        """``kind`` is that of the trigger alone."""
        self._kind = kind
        self.__name__ = f"Deployment{kind.__name__}"
        self.__doc__ = kind.__doc__

    def __call__(self, **fields: Any) -> dict[str, Any]:
        """The trigger as it is written in a deployment, with the name of its automation, parameters ...

        Raises:
            Invalid: a field is missing, unknown or of another kind.
        """
        own = {name: _plain(fields.pop(name)) for name in _OF_DEPLOYMENT if name in fields}
        trigger = self._kind(**fields)
        return {**_plain(fields), "type": trigger.__struct_config__.tag, **own}

    def __repr__(self) -> str:
        return f"<{self.__name__}>"


DeploymentEventTrigger = DeploymentKind(EventTrigger)
DeploymentMetricTrigger = DeploymentKind(MetricTrigger)
DeploymentCompoundTrigger = DeploymentKind(CompoundTrigger)
DeploymentSequenceTrigger = DeploymentKind(SequenceTrigger)

_FIELDS = values.AutomationUpdate.__struct_fields__


def _body(automation: Automation) -> dict[str, Any]:
    return {name: _plain(getattr(automation, name)) for name in _FIELDS}


def _convert(given: dict[str, Any], kind: type[T]) -> T:
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise Invalid(f"The automation cannot be used: {error}") from error


def _taken(automation: Automation, found: values.Automation) -> Automation:
    """``automation`` with what the server says of it."""
    for name in (*_FIELDS, "id", "created", "updated"):
        setattr(automation, name, getattr(found, name))
    return automation


def _id_of(automation: Automation) -> str:
    if automation.id is None:
        raise Invalid("The automation is not on the server.", fix="Create or read it first.")
    return str(automation.id)


@either
def _create(self: Automation) -> Automation:
    """Make it on the server; it knows its ``id`` then.

    Raises:
        Invalid: it cannot be used.
    """
    body = _convert(_body(self), values.AutomationCreate)
    return _taken(self, current().client.send(calls.create_automation(body=body)))


@either
def _update(self: Automation) -> None:
    """Replace what the server has by it.

    Raises:
        NotFound: the server has none.
    """
    call = calls.update_automation(id=_id_of(self), body=_convert(_body(self), values.AutomationUpdate))
    current().client.send(call)


@either
def _read(id: UUID | str | None = None, name: str | None = None) -> Automation:  # noqa: A002
    """The automation of that id, or of that name; of several with one name the newest.

    Raises:
        NotFound: there is none.
        Invalid: neither, or both are given.
    """
    if (id is None) == (name is None):
        raise Invalid("Give the id or the name of an automation.")
    client = current().client
    if id is not None:
        return _taken(Automation._empty(), client.send(calls.read_automation(id=str(id))))
    body = {"automations": {"name": {"any_": [name]}}, "sort": "CREATED_DESC", "limit": 1}
    found = client.send(calls.read_automations(body=body))
    if not found:
        raise NotFound(f"There is no automation {name!r}.")
    return _taken(Automation._empty(), found[0])


@either
def _delete(self: Automation) -> bool:
    """Delete it; whether there was one."""
    call = calls.delete_automation(id=_id_of(self))
    try:
        current().client.send(call)
    except NotFound:
        return False
    return True


@either
def _enable(self: Automation) -> bool:
    """Let it act; whether there is one."""
    return _set_enabled(self, True)


@either
def _disable(self: Automation) -> bool:
    """Let it do nothing; whether there is one."""
    return _set_enabled(self, False)


def _set_enabled(automation: Automation, enabled: bool) -> bool:
    patch = values.AutomationPatch(enabled=enabled)
    call = calls.patch_automation(id=_id_of(automation), body=patch)
    try:
        current().client.send(call)
    except NotFound:
        return False
    automation.enabled = enabled
    return True


class Automation:
    """What happens when a trigger fires. Its methods are called, or awaited in async code."""

    id: UUID | None
    created: datetime | None
    updated: datetime | None

    def __init__(
        self,
        name: str,
        trigger: values.Trigger,
        actions: Sequence[actions.Action],
        description: str = "",
        enabled: bool = True,
        tags: Sequence[str] = (),
        actions_on_trigger: Sequence[actions.Action] = (),
        actions_on_resolve: Sequence[actions.Action] = (),
    ) -> None:
        """Nothing is sent before ``create``."""
        self.name, self.trigger, self.actions = name, trigger, list(actions)
        self.description, self.enabled, self.tags = description, enabled, list(tags)
        self.actions_on_trigger, self.actions_on_resolve = list(actions_on_trigger), list(actions_on_resolve)
        self.id = self.created = self.updated = None

    @classmethod
    def _empty(cls) -> Automation:
        return cls.__new__(cls)

    def create(self) -> Any:
        """Make it on the server; see ``acreate``."""
        return _create(self)

    def update(self) -> Any:
        """Replace what the server has by it."""
        return _update(self)

    def delete(self) -> Any:
        """Delete it; whether there was one."""
        return _delete(self)

    def enable(self) -> Any:
        """Let it act; whether there is one."""
        return _enable(self)

    def disable(self) -> Any:
        """Let it do nothing; whether there is one."""
        return _disable(self)

    async def acreate(self) -> Automation:
        """``create``, awaited."""
        made: Automation = await _create.aio(self)
        return made

    async def aupdate(self) -> None:
        """``update``, awaited."""
        await _update.aio(self)

    async def adelete(self) -> bool:
        """``delete``, awaited."""
        return bool(await _delete.aio(self))

    async def aenable(self) -> bool:
        """``enable``, awaited."""
        return bool(await _enable.aio(self))

    async def adisable(self) -> bool:
        """``disable``, awaited."""
        return bool(await _disable.aio(self))

    read, aread = staticmethod(_read), staticmethod(_read.aio)

    def __repr__(self) -> str:
        return f"Automation({encode(self.name).decode()}, id={self.id})"
