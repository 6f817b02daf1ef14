"""Mail by SMTP."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Any

from eparch.orchestration.notifications.message import Message, NotSent, Target

SECONDS = 20.0
_PORTS = {"SSL": 465, "STARTTLS": 587, "INSECURE": 25}
_KINDS = {str(port): kind for kind, port in _PORTS.items()}
"""Blocks of Prefect's keep the kind of connection as its port."""
_HOSTS = {
    "aol": "smtp.aol.com",
    "att": "smtp.mail.att.net",
    "comcast": "smtp.comcast.net",
    "gmail": "smtp.gmail.com",
    "icloud": "smtp.mail.me.com",
    "outlook": "smtp-mail.outlook.com",
    "yahoo": "smtp.mail.yahoo.com",
}
"""Servers that blocks of Prefect's call by a short name."""


def send_mail(target: Target, message: Message) -> None:
    """Send it from ``sender_email`` to ``to_emails``; the user of the account where they are not given.

    Raises:
        NotSent: the server refused, or cannot be reached.
    """
    data = target.data
    user = str(data.get("username") or "")
    sender = str(data.get("sender_email") or user)
    receivers = _addresses(data.get("to_emails") or user)
    if not sender or not receivers:
        raise NotSent("The block says neither `to_emails` and `sender_email` nor a `username`.")
    mail = _written(sender, receivers, message)
    kind = str(data.get("smtp_type") or "SSL").upper()
    kind = _KINDS.get(kind, kind)
    if kind not in _PORTS:
        raise NotSent(f"The kind of connection {kind[:20]!r} is none of {', '.join(_PORTS)}.")
    try:
        with _open(target, kind) as server:
            if kind == "STARTTLS":
                server.starttls(context=_context(target))
            if user and data.get("password"):
                server.login(user, str(data["password"]))
            server.send_message(mail, from_addr=sender, to_addrs=receivers)
    except smtplib.SMTPResponseException as error:
        passes = 400 <= error.smtp_code < 500
        raise NotSent(f"The mail server answered {error.smtp_code}.", passes=passes) from error
    except smtplib.SMTPRecipientsRefused as error:
        codes = sorted({code for code, _ in error.recipients.values()})
        raise NotSent(f"The mail server refused the receivers: {codes}.") from error
    except (smtplib.SMTPNotSupportedError, ssl.SSLError) as error:
        raise NotSent(
            f"The mail server does not protect the connection so: {type(error).__name__}"
        ) from error
    except (smtplib.SMTPException, OSError) as error:
        raise NotSent(f"The mail server cannot be reached: {type(error).__name__}", passes=True) from error


def _open(target: Target, kind: str) -> smtplib.SMTP:
    host = server_of(target)
    port = int(target.data.get("smtp_port") or _PORTS[kind])
    if kind == "SSL":
        return smtplib.SMTP_SSL(host, port, timeout=SECONDS, context=_context(target))
    return smtplib.SMTP(host, port, timeout=SECONDS)


def server_of(target: Target) -> str:
    """The host that the block names, or calls by a short name."""
    given = str(target.data.get("smtp_server") or "gmail")
    return _HOSTS.get(given.lower(), given)


def _context(target: Target) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if target.data.get("verify") is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _addresses(given: Any) -> list[str]:
    found = given.split(",") if isinstance(given, str) else list(given)
    return [str(one).strip() for one in found if str(one).strip()]


def _written(sender: str, receivers: list[str], message: Message) -> EmailMessage:
    for text in (sender, *receivers):
        if any(ord(one) < 32 for one in text):
            raise NotSent("An address has a line break in it.")
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = ", ".join(receivers)
    mail["Subject"] = " ".join(message.subject.split())[:900]
    mail["Date"] = formatdate()
    mail["Message-ID"] = f"<{message.key}@eparch>" if message.key else make_msgid()
    mail.set_content(message.body)
    return mail
