"""The block types that every server has: secrets, file systems, webhooks, notifications (wire 4.6).

Owns their schemas, and registering them. A client that knows more of a type registers its own schema beside
ours, as it does on any server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from eparch.core.blocks import BlockSchemaCreate, schema_checksum
from eparch.core.model import new_id
from eparch.orchestration import blocks as changes
from eparch.orchestration.storage_blocks import STORAGE
from eparch.store import blocks
from eparch.store.statement import Steps

Field = tuple[str, dict[str, Any]]

NOTIFY = ("notify",)
FILES = ("get-directory", "put-directory", "read-path", "write-path")

VERSION = "eparch-1"
"""The version of these schemas; no client of Prefect has one like it."""


@dataclass(frozen=True, slots=True)
class SystemType:
    """A block type of the system."""

    slug: str
    name: str
    description: str
    fields: tuple[Field, ...]
    capabilities: tuple[str, ...] = ()
    is_protected: bool = False

    def schema(self) -> dict[str, Any]:
        """The fields as a JSON Schema with Prefect's additions."""
        properties = {
            name: {"title": name.replace("_", " ").title(), "position": at, **one}
            for at, (name, one) in enumerate(self.fields)
        }
        secrets = [
            f"{name}.*" if one.get("type") == "object" else name
            for name, one in self.fields
            if one.get("writeOnly")
        ]
        return {
            "type": "object",
            "title": self.name.replace(" ", ""),
            "description": self.description,
            "block_type_slug": self.slug,
            "properties": properties,
            "required": [name for name, one in self.fields if "default" not in one],
            "secret_fields": secrets,
            "block_schema_references": {},
        }


def _text(about: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": about, **more}


def _maybe(about: str, type_: str = "string", **more: Any) -> dict[str, Any]:
    return {"anyOf": [{"type": type_}, {"type": "null"}], "description": about, "default": None, **more}


def _secret(about: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "format": "password", "writeOnly": True, "description": about, **more}


def _maybe_secret(about: str) -> dict[str, Any]:
    return _maybe(about, format="password", writeOnly=True)


def _secrets(about: str) -> dict[str, Any]:
    return {"type": "object", "writeOnly": True, "description": about, "default": {}}


def _flag(about: str, default: bool) -> dict[str, Any]:
    return {"type": "boolean", "description": about, "default": default}


def _choice(about: str, default: str, *choices: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(choices), "description": about, "default": default}


def _texts(about: str, **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}, "description": about, **more}


def _number(about: str, default: float) -> dict[str, Any]:
    kind = "integer" if isinstance(default, int) else "number"
    return {"type": kind, "description": about, "default": default}


_KIND: Field = (
    "notify_type",
    _choice("How serious a message is shown.", "info", "info", "success", "warning", "failure"),
)
_METHOD: Field = (
    "method",
    _choice("The method of the request.", "POST", "GET", "POST", "PUT", "PATCH", "DELETE"),
)
_PRIVATE: Field = ("allow_private_urls", _flag("Whether the address may be inside a private network.", True))
_PICTURE: Field = ("include_image", _flag("Whether a picture stands beside the message.", False))

_KINDS = {"text": _text, "maybe": _maybe, "secret": _maybe_secret, "secrets": _secrets}


def _kept(slug: str, name: str, about: str, fields: dict[str, str]) -> SystemType:
    """The type of a row of ``storage_blocks``."""
    told = {key: f"{key.replace('_', ' ').capitalize()}." for key in fields}
    return SystemType(slug, name, about, tuple((key, _KINDS[fields[key]](told[key])) for key in fields))


SYSTEM_TYPES: tuple[SystemType, ...] = (
    SystemType(
        "secret",
        "Secret",
        "A value that is kept sealed and is masked wherever it is shown.",
        (
            (
                "value",
                {
                    "title": "Value",
                    "description": "The value: a text or any JSON.",
                    "format": "password",
                    "writeOnly": True,
                },
            ),
        ),
        is_protected=True,
    ),
    SystemType(
        "local-file-system",
        "Local File System",
        "Files on the machine where the code runs.",
        (("basepath", _maybe("The folder that paths start from.")),),
        FILES,
        is_protected=True,
    ),
    SystemType(
        "remote-file-system",
        "Remote File System",
        "Files of any kind that fsspec can reach, such as object stores.",
        (
            ("basepath", _text("Where paths start, with its scheme, as s3://bucket/folder.")),
            ("settings", _secrets("What the file system is opened with, such as keys and endpoints.")),
        ),
        FILES,
    ),
    SystemType(
        "smb",
        "SMB",
        "Files on a Windows share.",
        (
            ("share_path", _text("The share and the folder in it, as /share/folder.")),
            ("smb_username", _maybe_secret("The name of the user.")),
            ("smb_password", _maybe_secret("The password of the user.")),
            ("smb_host", _text("The name or the address of the server.")),
            ("smb_port", _maybe("The port, if it is not 445.", "integer")),
        ),
        FILES,
    ),
    SystemType(
        "webhook",
        "Webhook",
        "A request to any URL.",
        (
            _METHOD,
            ("url", _secret("Where the request goes.")),
            ("headers", _secrets("Headers that are sent with it.")),
            _PRIVATE,
            ("verify", _flag("Whether the certificate of the server is checked.", True)),
        ),
        is_protected=True,
    ),
    SystemType(
        "custom-webhook",
        "Custom Webhook",
        "Messages as a request that you shape yourself.",
        (
            ("name", _text("What it is called in logs.")),
            ("url", _text("Where the request goes; {{subject}}, {{body}} and secrets are filled in.")),
            _METHOD,
            ("params", _maybe("Parameters of the query.", "object")),
            ("json_data", _maybe("The body, as JSON.", "object")),
            ("form_data", _maybe("The body, as a form.", "object")),
            ("headers", _maybe("Headers that are sent with it.", "object")),
            ("cookies", _maybe("Cookies that are sent with it.", "object")),
            ("timeout", _number("Seconds to wait for an answer.", 10.0)),
            ("secrets", _secrets("Values that the other fields may name.")),
        ),
        NOTIFY,
    ),
    SystemType(
        "slack-webhook",
        "Slack Webhook",
        "Messages to a channel of Slack.",
        (_KIND, ("url", _secret("The incoming webhook of the channel.")), _PRIVATE),
        NOTIFY,
    ),
    SystemType(
        "ms-teams-webhook",
        "Microsoft Teams Webhook",
        "Messages to a channel of Microsoft Teams.",
        (
            _KIND,
            ("url", _secret("The webhook of the channel.")),
            _PRIVATE,
            _PICTURE,
            ("wrap", _flag("Whether long lines are wrapped.", True)),
        ),
        NOTIFY,
    ),
    SystemType(
        "discord-webhook",
        "Discord Webhook",
        "Messages to a channel of Discord.",
        (
            _KIND,
            ("webhook_id", _secret("The first part of the webhook's address.")),
            ("webhook_token", _secret("The second part of the webhook's address.")),
            ("botname", _maybe("Who the message seems to come from.")),
            ("tts", _flag("Whether it is read aloud.", False)),
            _PICTURE,
            ("avatar", _flag("Whether the sender has a picture.", False)),
            ("avatar_url", _maybe("The picture of the sender.")),
        ),
        NOTIFY,
    ),
    SystemType(
        "mattermost-webhook",
        "Mattermost Webhook",
        "Messages to a channel of Mattermost.",
        (
            _KIND,
            ("hostname", _text("The name of the server.")),
            ("secure", _flag("Whether it is reached by https.", False)),
            ("token", _secret("The token of the webhook.")),
            ("botname", _maybe("Who the message seems to come from.")),
            ("channels", _maybe("The channels, if not the webhook's own.", "array")),
            _PICTURE,
            ("path", _maybe("The path before the webhook's.")),
            ("port", _number("The port of the server.", 8065)),
        ),
        NOTIFY,
    ),
    SystemType(
        "opsgenie-webhook",
        "Opsgenie Webhook",
        "Alerts in Opsgenie.",
        (
            _KIND,
            ("apikey", _secret("The key of the API.")),
            ("target_user", _maybe("Users to tell.", "array")),
            ("target_team", _maybe("Teams to tell.", "array")),
            ("target_schedule", _maybe("Schedules to tell.", "array")),
            ("target_escalation", _maybe("Escalations to tell.", "array")),
            ("region_name", _choice("Where the account is.", "us", "us", "eu")),
            ("batch", _flag("Whether all are told with one request.", False)),
            ("tags", _maybe("Tags of the alert.", "array")),
            ("priority", _maybe("From 1, the most urgent, to 5.", "integer", default=3)),
            ("alias", _maybe("By what alerts are told apart.")),
            ("entity", _maybe("What the alert is about.")),
            ("details", _maybe("More facts, by name.", "object")),
        ),
        NOTIFY,
    ),
    SystemType(
        "pager-duty-webhook",
        "Pager Duty Webhook",
        "Incidents in PagerDuty.",
        (
            _KIND,
            ("integration_key", _secret("The key of the integration.")),
            ("api_key", _secret("The key of the API.")),
            ("source", _maybe("Where the incident comes from.", default="Eparch")),
            ("component", _text("What part of it failed.", default="Notification")),
            ("group", _maybe("What group the component belongs to.")),
            ("class_id", _maybe("What kind of event it is.")),
            ("region_name", _choice("Where the account is.", "us", "us", "eu")),
            ("clickable_url", _maybe("Where to read more.")),
            _PICTURE,
            ("custom_details", _maybe("More facts, by name.", "object")),
        ),
        NOTIFY,
    ),
    SystemType(
        "sendgrid-email",
        "Sendgrid Email",
        "Mail by SendGrid.",
        (
            _KIND,
            ("api_key", _secret("The key of the API.")),
            ("sender_email", _text("Who the mail is from.")),
            ("to_emails", _texts("Who gets it.")),
        ),
        NOTIFY,
    ),
    SystemType(
        "email-server-credentials",
        "Email Server Credentials",
        "Mail by any SMTP server.",
        (
            ("username", _maybe("The name of the user.")),
            ("password", _secret("The password of the user.", default="")),
            ("smtp_server", _text("The name of the server.", default="smtp.gmail.com")),
            ("smtp_type", _choice("How the connection is protected.", "SSL", "SSL", "STARTTLS", "INSECURE")),
            ("smtp_port", _maybe("The port, if it is not the usual one.", "integer")),
            ("verify", _flag("Whether the certificate of the server is checked.", True)),
            ("sender_email", _maybe("Who the mail is from, if it is not the user.")),
            ("to_emails", {**_texts("Who gets it, if it is not the user."), "default": []}),
        ),
        NOTIFY,
    ),
    SystemType(
        "twilio-sms",
        "Twilio SMS",
        "Short messages by Twilio.",
        (
            _KIND,
            ("account_sid", _text("The account.")),
            ("auth_token", _secret("The token of the account.")),
            ("from_phone_number", _text("The number that sends.")),
            ("to_phone_numbers", _texts("The numbers that receive.")),
        ),
        NOTIFY,
    ),
    *(_kept(*row) for row in STORAGE),
)


@cache
def _schemas() -> dict[str, tuple[dict[str, Any], str]]:
    schemas = {one.slug: one.schema() for one in SYSTEM_TYPES}
    return {slug: (fields, schema_checksum(fields)) for slug, fields in schemas.items()}


def missing(registered: set[tuple[str, str]]) -> Sequence[SystemType]:
    """The types of which the newest schema is not among ``registered``."""
    return [one for one in SYSTEM_TYPES if (one.slug, _schemas()[one.slug][1]) not in registered]


def install(now: datetime) -> Steps[None]:
    """Register what is not registered yet; what is there costs one read."""
    registered = yield from blocks.read_registered([one.slug for one in SYSTEM_TYPES])
    for one in missing(registered):
        known = yield from blocks.read_type(one.slug)
        columns = {"name": one.name, "description": one.description, "is_protected": one.is_protected}
        if known is None:
            type_id = new_id()
            stamps = {"id": type_id, "created": now, "updated": now, "slug": one.slug}
            empty = {"logo_url": None, "documentation_url": None, "code_example": None}
            yield from blocks.insert_type({**stamps, **columns, **empty})
        else:
            type_id = known["id"]
            yield from blocks.write_type(type_id, {**columns, "updated": now})
        body = BlockSchemaCreate(
            block_type_id=type_id,
            fields=_schemas()[one.slug][0],
            capabilities=list(one.capabilities),
            version=VERSION,
        )
        yield from changes.create_schema(body, now)
