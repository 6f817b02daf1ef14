"""Where notifications go: blocks that automations name. The server sends the messages, not these classes."""

from __future__ import annotations

from typing import Any

from eparch.core.secrets import SecretDict, SecretStr
from eparch.sdk.blocks.block import Block
from eparch.sdk.blocks.fields import Field


class SlackWebhook(Block):
    """Messages to a channel of Slack."""

    _block_type_name = "Slack Webhook"
    _block_schema_capabilities = ["notify"]
    _is_system = True

    url: SecretStr = Field(description="The incoming webhook of the channel.")
    notify_type: str = Field(default="info", description="How serious a message is shown.")


class MicrosoftTeamsWebhook(Block):
    """Messages to a channel of Microsoft Teams."""

    _block_type_name = "Microsoft Teams Webhook"
    _block_type_slug = "ms-teams-webhook"
    _block_schema_capabilities = ["notify"]
    _is_system = True

    url: SecretStr = Field(description="The webhook of the channel.")
    notify_type: str = Field(default="info", description="How serious a message is shown.")


class DiscordWebhook(Block):
    """Messages to a channel of Discord."""

    _block_type_name = "Discord Webhook"
    _block_schema_capabilities = ["notify"]
    _is_system = True

    webhook_id: SecretStr = Field(description="The first part of the webhook's address.")
    webhook_token: SecretStr = Field(description="The second part of the webhook's address.")
    botname: str | None = None
    notify_type: str = Field(default="info", description="How serious a message is shown.")


class CustomWebhookNotificationBlock(Block):
    """Messages as a request that you shape yourself."""

    _block_type_name = "Custom Webhook"
    _block_schema_capabilities = ["notify"]
    _is_system = True

    name: str = Field(description="What it is called in logs.")
    url: str = Field(description="Where the request goes; {{subject}}, {{body}} and secrets are filled in.")
    method: str = "POST"
    params: dict[str, Any] | None = None
    json_data: dict[str, Any] | None = None
    form_data: dict[str, Any] | None = None
    headers: dict[str, Any] | None = None
    cookies: dict[str, Any] | None = None
    timeout: float = 10.0
    secrets: SecretDict = Field(default_factory=lambda: SecretDict({}))
