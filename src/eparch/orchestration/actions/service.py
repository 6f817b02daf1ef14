"""Carries out the actions of automations.

An action on the database is carried out in the transaction that marks it done: exactly once, wherever a
server dies. One that leaves the server (a webhook, a notification) is carried out at least once, with the
same key each time. Several servers take different rows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict, deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from eparch.core import automation_actions as a
from eparch.core.action_context import filters_for
from eparch.core.action_templates import Hydration, hydrate, render, wanted_of
from eparch.core.automations import TriggeredAction
from eparch.core.errors import EparchError, TemplateInvalid, Unavailable
from eparch.core.model import new_id
from eparch.orchestration import blocks
from eparch.orchestration.actions.acting import Rendered, act, is_external
from eparch.orchestration.actions.context import read_context, read_variables
from eparch.orchestration.actions.outcome import ActionFailed, Outcome, events_of, kind_of, reason_of
from eparch.orchestration.notifications import Answered, Message, NotSent, Target, call_webhook, notify
from eparch.orchestration.sealing import Keyring
from eparch.store import outbox, records
from eparch.store.database import Database
from eparch.store.outbox import Claimed
from eparch.store.statement import Note, Steps

logger = logging.getLogger("eparch.server")

BATCH = 20
LEASE = timedelta(minutes=5)
"""How long a server has to carry out what it claimed; a message takes a minute at most."""
MAX_ATTEMPTS = 5
FIRST_WAIT = 2.0
"""Seconds until a message is sent again; each time four times as long."""
MOST_SENDING = 8
"""Messages that are sent at one time."""
PER_MINUTE = 300
"""Actions of one automation in a minute; what is more waits, so that a loop of automations stays slow."""
KEPT = timedelta(days=1)
"""How long one can look up what came of an action."""
MINUTE = timedelta(minutes=1)


class Actions:
    """Takes actions from the outbox and carries them out."""

    name = "actions"

    def __init__(
        self, keys: Keyring, new_name: Callable[[], str], *, ui_url: str = "", interval: float = 5.0
    ) -> None:
        """``keys`` open blocks, ``new_name`` names runs; ``ui_url`` is that of the web page, if any."""
        self.interval = interval
        self.holder: UUID = new_id()
        self._keys, self._new_name, self._ui_url = keys, new_name, ui_url
        self._sending: set[asyncio.Task[None]] = set()
        self._recent: dict[UUID, deque[datetime]] = defaultdict(deque)
        self._cleaned: datetime | None = None

    async def run_once(self, database: Database, now: datetime) -> bool:
        """Carry out what is due at ``now``; messages go on being sent after it returns."""
        if self._cleaned is None or now - self._cleaned > timedelta(hours=1):
            self._cleaned = now
            self._recent.clear()
            await database.write(outbox.forget, now - KEPT, 10_000)
        room = MOST_SENDING - len(self._sending)
        if room <= 0:
            await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)
            return True
        claimed = await database.write(outbox.take, self.holder, now, now + LEASE, min(BATCH, room))
        for one in claimed:
            if not await self._admit(database, one, now):
                continue
            if is_external(one.triggered.action):
                task = asyncio.create_task(self._carry_out(database, one, now))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)
            else:
                await self._carry_out(database, one, now)
        return bool(claimed)

    async def settled(self) -> None:
        """Wait until every message that is being sent was sent, or was not."""
        while self._sending:
            await asyncio.wait(self._sending)

    async def stop(self) -> None:
        """Give up what is being sent; it is sent again later."""
        for task in self._sending:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._sending, return_exceptions=True)

    async def _admit(self, database: Database, one: Claimed, now: datetime) -> bool:
        """Whether the automation may act now; it waits when it has acted too often."""
        recent = self._recent[one.triggered.automation.id]
        while recent and recent[0] <= now - MINUTE:
            recent.popleft()
        if len(recent) >= PER_MINUTE:
            until = recent[0] + MINUTE
            await database.write(outbox.postpone, one.triggered.id, self.holder, until, None, counted=False)
            return False
        recent.append(now)
        return True

    async def _carry_out(self, database: Database, one: Claimed, now: datetime) -> None:
        triggered, outcome = one.triggered, Outcome()
        try:
            if one.attempt > MAX_ATTEMPTS:
                raise ActionFailed("The server stopped each time that it began to carry it out.")
            if is_external(triggered.action):
                await self._send(database, triggered, outcome, now)
                await database.write(_end, triggered, self.holder, outcome, None, now)
            else:
                rendered = await self._rendered(database, triggered, outcome, now)
                outcome = await database.write(_act, triggered, self.holder, rendered, outcome, now)
        except Unavailable:
            logger.warning("The action %s is tried again, as the database is away.", triggered.id)
        except NotSent as error:
            await self._not_sent(database, one, outcome, error, now)
        except ActionFailed as error:
            await self._fail(database, triggered, outcome, error.message, now)
        except EparchError as error:
            status, reason = reason_of(error, kind_of(triggered))
            outcome.answered(status)
            await self._fail(database, triggered, outcome, reason, now)
        except Exception as error:
            logger.exception("The action %s of the automation %r failed.", triggered.id, _name(triggered))
            reason = f"The server made a mistake: {type(error).__name__}"
            await self._fail(database, triggered, outcome, reason, now)

    async def _not_sent(
        self, database: Database, one: Claimed, outcome: Outcome, error: NotSent, now: datetime
    ) -> None:
        if error.passes and one.attempt < MAX_ATTEMPTS:
            until = now + timedelta(seconds=FIRST_WAIT * 4 ** (one.attempt - 1))
            await database.write(outbox.postpone, one.triggered.id, self.holder, until, error.message)
            return
        await self._fail(database, one.triggered, outcome, error.message, now)

    async def _fail(
        self, database: Database, triggered: TriggeredAction, outcome: Outcome, reason: str, now: datetime
    ) -> None:
        logger.warning("The action %s of %r failed: %s", kind_of(triggered), _name(triggered), reason)
        await database.write(_end, triggered, self.holder, outcome, reason[:2000], now)

    # Templates

    async def _rendered(
        self, database: Database, triggered: TriggeredAction, outcome: Outcome, now: datetime
    ) -> Rendered:
        action = triggered.action
        if not isinstance(action, a.RunDeployment):
            return Rendered()
        if not action.parameters:
            return Rendered(None, self._new_name())
        try:
            templates, names = wanted_of(action.parameters)
            context = await database.scan(read_context, triggered, templates, self._ui_url, now)
            variables = await database.read(read_variables, names)
            using = Hydration(lambda text: render(text, context, filters_for(self._ui_url)), variables)
            parameters = await asyncio.to_thread(hydrate, action.parameters, using)
        except TemplateInvalid as error:
            outcome.details["template_error"] = error.message
            raise ActionFailed(f"Unable to create flow run from deployment: {error.message}") from error
        return Rendered(parameters, self._new_name())

    async def _texts(
        self, database: Database, triggered: TriggeredAction, outcome: Outcome, now: datetime
    ) -> dict[str, str]:
        templates = a.templates_of(triggered.action)
        context = await database.scan(read_context, triggered, list(templates.values()), self._ui_url, now)
        filters = filters_for(self._ui_url)
        made = {}
        for name, text in templates.items():
            try:
                made[name] = await asyncio.to_thread(render, text, context, filters)
            except TemplateInvalid as error:
                outcome.details |= {"template_error": error.message, "template_source": text[:2000]}
                raise ActionFailed(f"Template rendering failed: {error.message}") from error
        return made

    # Messages

    async def _send(
        self, database: Database, triggered: TriggeredAction, outcome: Outcome, now: datetime
    ) -> None:
        action = triggered.action
        assert isinstance(action, (a.CallWebhook, a.SendNotification))
        target = await self._target(database, action.block_document_id, outcome)
        texts = await self._texts(database, triggered, outcome, now)
        key = str(triggered.id)
        if isinstance(action, a.SendNotification):
            message = Message(texts["subject"], texts["body"], key)
            await asyncio.to_thread(notify, target, message)
            return
        answered: Answered = await asyncio.to_thread(call_webhook, target, texts["payload"], key)
        outcome.answered(answered.status)
        outcome.details["response_body"] = target.without_secrets(answered.body)
        outcome.details["response_headers"] = {
            name: target.without_secrets(value) for name, value in answered.headers.items()
        }

    async def _target(self, database: Database, block_id: UUID, outcome: Outcome) -> Target:
        found = await database.read(blocks.read_document, block_id, self._keys, True)
        if found is None:
            raise ActionFailed(f"The block {block_id} is not there any more.")
        outcome.concerns(f"prefect.block-document.{block_id}", "block", found["name"])
        type_: dict[str, Any] = found["block_type"]
        outcome.concerns(f"prefect.block-type.{type_['slug']}", "block-type")
        return Target(str(type_["slug"]), found["data"])


def _name(triggered: TriggeredAction) -> str:
    return triggered.automation.name


def _act(
    triggered: TriggeredAction, holder: UUID, rendered: Rendered, before: Outcome, now: datetime
) -> Steps[Outcome]:
    """Carry out the action and mark it done; nothing happens when somebody else holds it."""
    outcome = Outcome(dict(before.details), list(before.related))
    if not (yield from outbox.finish(triggered.id, holder, None, now)):
        return outcome
    try:
        reason = yield from act(triggered, outcome, rendered, now)
    except EparchError:
        before.details.update(outcome.details)
        before.related[:] = outcome.related
        raise
    if reason is not None:
        yield from outbox.fail(triggered.id, reason)
    yield from _tell(triggered, outcome, reason, now)
    return outcome


def _end(
    triggered: TriggeredAction, holder: UUID, outcome: Outcome, reason: str | None, now: datetime
) -> Steps[None]:
    """Mark the action done, or failed for ``reason``, and tell it."""
    if (yield from outbox.finish(triggered.id, holder, reason, now)):
        yield from _tell(triggered, outcome, reason, now)


def _tell(triggered: TriggeredAction, outcome: Outcome, reason: str | None, now: datetime) -> Steps[None]:
    events = events_of(triggered, outcome, reason, now)
    yield from records.insert_events(events, now)
    for event in events:
        yield Note("events", event)
