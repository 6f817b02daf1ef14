"""Services that the library Apprise speaks to; it is installed with ``eparch[notifications]``."""

from __future__ import annotations

import logging
from typing import Any

from eparch.orchestration.notifications.message import Message, NotSent, Target


def _plugin(module: str, name: str) -> Any:
    try:
        import importlib

        return getattr(importlib.import_module(f"apprise.plugins.{module}"), name)
    except ImportError as error:
        raise NotSent(
            "Blocks of this type need the library Apprise on the server: pip install 'eparch[notifications]'"
        ) from error


def _send(target: Target, message: Message, instance: Any) -> None:
    """Let Apprise send it; what it logs has addresses in it and is not kept."""
    from apprise import Apprise, AppriseAsset

    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    sender = Apprise(asset=AppriseAsset(app_id="Eparch", app_desc="Eparch", app_url=""))
    sender.add(instance)
    kind = target.data.get("notify_type") or "info"
    if not sender.notify(body=message.body, title=message.subject, notify_type=kind):
        raise NotSent("The service did not take the message.", passes=True)


def send_mattermost(target: Target, message: Message) -> None:
    """Post to Mattermost."""
    data = target.data
    made = _plugin("mattermost", "NotifyMattermost")(
        token=data["token"],
        fullpath=data.get("path"),
        host=data["hostname"],
        user=data.get("botname"),
        targets=data.get("channels"),
        include_image=bool(data.get("include_image")),
        port=data.get("port") or 8065,
        secure=bool(data.get("secure")),
    )
    _send(target, message, made)


_OPSGENIE_MARKS = {"target_user": "@", "target_team": "#", "target_schedule": "*", "target_escalation": "^"}


def send_opsgenie(target: Target, message: Message) -> None:
    """Open an alert in Opsgenie."""
    data = target.data
    targets = [mark + one for name, mark in _OPSGENIE_MARKS.items() for one in data.get(name) or ()]
    made = _plugin("opsgenie", "NotifyOpsgenie")(
        apikey=data["apikey"],
        targets=targets,
        region_name=data.get("region_name") or "us",
        details=data.get("details"),
        priority=data.get("priority") or 3,
        alias=data.get("alias"),
        entity=data.get("entity"),
        batch=bool(data.get("batch")),
        tags=data.get("tags"),
        action="new",
    )
    _send(target, message, made)


def send_pager_duty(target: Target, message: Message) -> None:
    """Open an incident in PagerDuty; the body stands in its details."""
    data = target.data
    details = {**(data.get("custom_details") or {}), "Notification Body": message.body}
    made = _plugin("pagerduty", "NotifyPagerDuty")(
        apikey=data["api_key"],
        integrationkey=data["integration_key"],
        source=data.get("source") or "Eparch",
        component=data.get("component") or "Notification",
        group=data.get("group"),
        class_id=data.get("class_id"),
        region_name=data.get("region_name") or "us",
        click=data.get("clickable_url"),
        include_image=data.get("include_image") is not False,
        details=details,
    )
    _send(target, message, made)


def send_sendgrid(target: Target, message: Message) -> None:
    """Send mail by SendGrid."""
    data = target.data
    made = _plugin("sendgrid", "NotifySendGrid")(
        apikey=data["api_key"], from_email=data["sender_email"], targets=data["to_emails"]
    )
    _send(target, message, made)


def send_twilio(target: Target, message: Message) -> None:
    """Send a short message by Twilio."""
    data = target.data
    made = _plugin("twilio", "NotifyTwilio")(
        account_sid=data["account_sid"],
        auth_token=data["auth_token"],
        source=data["from_phone_number"],
        targets=data["to_phone_numbers"],
    )
    _send(target, message, made)
