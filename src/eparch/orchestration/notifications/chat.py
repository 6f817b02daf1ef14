"""Messages to Slack, Microsoft Teams and Discord by their incoming webhooks."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from eparch.orchestration.notifications.message import Message, Target
from eparch.orchestration.notifications.request import refuse_failure, send

SLACK_LIMIT = 38_000
DISCORD_LIMIT = 2_000
TEAMS_LIMIT = 24_000
"""Characters of one message that the service takes; a longer one is cut."""

DISCORD = "https://discord.com/api/webhooks"


def send_slack(target: Target, message: Message) -> None:
    """Post to the channel of the webhook (Slack: "Sending messages using incoming webhooks")."""
    text = f"*{message.subject}*\n{message.body}" if message.subject else message.body
    _post(target, str(target.data["url"]), {"text": _cut(text, SLACK_LIMIT)}, "Slack")


def send_teams(target: Target, message: Message) -> None:
    """Post an adaptive card to the workflow of the webhook (Teams: "Create an adaptive card")."""
    wrap = target.data.get("wrap") is not False
    parts: list[dict[str, Any]] = [
        {"type": "TextBlock", "text": _cut(message.body, TEAMS_LIMIT), "wrap": wrap}
    ]
    if message.subject:
        title = {"type": "TextBlock", "text": message.subject[:1000], "wrap": wrap}
        parts.insert(0, {**title, "weight": "Bolder", "size": "Medium"})
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": parts,
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    body = {"type": "message", "attachments": [{**attachment, "contentUrl": None}]}
    _post(target, str(target.data["url"]), body, "Microsoft Teams")


def send_discord(target: Target, message: Message) -> None:
    """Post to the channel of the webhook (Discord: "Execute Webhook"); it mentions nobody."""
    data = target.data
    # Prefect's block has the two halves of the URL, others have it whole.
    halves = (quote(str(data.get(name) or ""), safe="") for name in ("webhook_id", "webhook_token"))
    url = data.get("url") or "/".join((target.shapes.get("discord", DISCORD), *halves))
    text = f"**{message.subject}**\n{message.body}" if message.subject else message.body
    body: dict[str, Any] = {"content": _cut(text, DISCORD_LIMIT), "allowed_mentions": {"parse": []}}
    body["tts"] = bool(data.get("tts"))
    if data.get("botname"):
        body["username"] = data["botname"]
    if data.get("avatar_url"):
        body["avatar_url"] = data["avatar_url"]
    _post(target, str(url), body, "Discord")


def _post(target: Target, url: str, body: dict[str, Any], service: str) -> None:
    answered = send(
        "POST",
        url,
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
        private=target.data.get("allow_private_urls") is not False,
    )
    refuse_failure(answered, service)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
