"""Sends a message or calls a webhook, as a block says (issue 3, item 4).

Owns which kind of block is served by which module. Whatever goes wrong is told without a secret. Everything
here blocks: it is run in a thread.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from eparch.core.errors import did_you_mean
from eparch.orchestration.notifications.message import Answered, Message, NotSent, Target

_HERE = "eparch.orchestration.notifications."
_SENDERS: Mapping[str, tuple[str, str]] = {
    "slack-webhook": (_HERE + "chat", "send_slack"),
    "ms-teams-webhook": (_HERE + "chat", "send_teams"),
    "discord-webhook": (_HERE + "chat", "send_discord"),
    "custom-webhook": (_HERE + "webhook", "send_custom"),
    "webhook": (_HERE + "webhook", "send_plain"),
    "email-server-credentials": (_HERE + "mail", "send_mail"),
    "mattermost-webhook": (_HERE + "services", "send_mattermost"),
    "opsgenie-webhook": (_HERE + "services", "send_opsgenie"),
    "pager-duty-webhook": (_HERE + "services", "send_pager_duty"),
    "sendgrid-email": (_HERE + "services", "send_sendgrid"),
    "twilio-sms": (_HERE + "services", "send_twilio"),
}

__all__ = ["Answered", "Message", "NotSent", "Target", "call_webhook", "notify"]


def notify(target: Target, message: Message) -> None:
    """Send ``message`` to ``target``.

    Raises:
        NotSent: it was not sent, or nobody knows; the error has no secret in it.
    """
    if target.slug not in _SENDERS:
        raise NotSent(
            f"A block of the type {target.slug!r} cannot notify. {did_you_mean(target.slug, _SENDERS)}"
        )
    home, name = _SENDERS[target.slug]
    send: Callable[[Target, Message], None] = getattr(importlib.import_module(home), name)
    _guarded(target, send, target, message)


def call_webhook(target: Target, payload: str, key: str) -> Answered:
    """Call the webhook with ``payload``; what it answered.

    Raises:
        NotSent: it was not called, or did not answer; the error has no secret in it.
    """
    if target.slug != "webhook":
        raise NotSent("The referenced block was not a webhook block")
    from eparch.orchestration.notifications.webhook import call

    answered: Answered = _guarded(target, call, target, payload, key)
    return answered


def _guarded(target: Target, act: Callable[..., Any], *args: Any) -> Any:
    """What ``act`` gives; an error of it has no value of the block in its text."""
    try:
        return act(*args)
    except NotSent as error:
        raise NotSent(target.without_secrets(error.message), passes=error.passes) from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = target.without_secrets(f"{type(error).__name__}: {error}")
        raise NotSent(f"The block is not as one of the type '{target.slug}' is: {what}") from None
    except OSError as error:
        raise NotSent(target.without_secrets(str(error) or type(error).__name__), passes=True) from None
