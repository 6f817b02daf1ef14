"""Messages through real servers: what arrives, what is refused, what an error may show (issue 3, item 4)."""

from __future__ import annotations

import builtins
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from tests.orchestration.notifications.receiver import Receiver, receiving

from eparch.orchestration.notifications import Message, NotSent, Target, call_webhook, notify
from eparch.orchestration.notifications.mail import server_of
from eparch.orchestration.notifications.request import send
from eparch.orchestration.system_blocks import SYSTEM_TYPES

TOLD = Message("Flow failed", "etl / brave-owl: 3 < 4\nsee there", "key-1")


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def refused(target: Target, message: Message = TOLD) -> NotSent:
    with pytest.raises(NotSent) as caught:
        notify(target, message)
    return caught.value


def test_slack(server: Receiver) -> None:
    notify(Target("slack-webhook", {"url": f"{server.url}/services/T/B/x"}), TOLD)
    (got,) = server.got
    assert (got.method, got.path) == ("POST", "/services/T/B/x")
    assert json.loads(got.body) == {"text": "*Flow failed*\netl / brave-owl: 3 < 4\nsee there"}


def test_teams_gets_a_card(server: Receiver) -> None:
    url = f"{server.url}/workflows/a/triggers/manual/paths/invoke?api-version=2016-06-01&sig=s%2Fx"
    notify(Target("ms-teams-webhook", {"url": url, "wrap": False}), TOLD)
    (got,) = server.got
    assert got.path.endswith("?api-version=2016-06-01&sig=s%2Fx")
    (attachment,) = json.loads(got.body)["attachments"]
    texts = [(part["text"], part["wrap"]) for part in attachment["content"]["body"]]
    assert texts == [("Flow failed", False), ("etl / brave-owl: 3 < 4\nsee there", False)]


def test_discord_by_two_halves_or_a_url_and_it_mentions_nobody(server: Receiver) -> None:
    halves = {"webhook_id": "123", "webhook_token": "a/../b", "botname": "bot"}
    notify(Target("discord-webhook", halves, {"discord": server.url}), TOLD)
    notify(Target("discord-webhook", {"url": f"{server.url}/whole"}), Message("", "x" * 5000))
    assert [got.path for got in server.got] == ["/123/a%2F..%2Fb", "/whole"]
    first, second = (json.loads(got.body) for got in server.got)
    assert first["username"] == "bot"
    assert first["allowed_mentions"] == {"parse": []}
    assert len(second["content"]) == 2000


def test_a_custom_webhook_is_filled_in(server: Receiver) -> None:
    data = {
        "name": "mine",
        "url": server.url + "/{{name}}",
        "method": "PUT",
        "params": {"q": "{{ subject }}"},
        "json_data": {"text": "{{subject}}: {{body}}", "token": ["{{token}}"], "n": 1},
        "headers": {"X-Token": "{{token}}"},
        "cookies": {"a": "b"},
        "secrets": {"token": "s3cret-token"},
    }
    notify(Target("custom-webhook", data), TOLD)
    (got,) = server.got
    assert (got.method, got.path) == ("PUT", "/mine?q=Flow+failed")
    assert json.loads(got.body)["text"] == f"Flow failed: {TOLD.body}"
    assert json.loads(got.body)["token"] == ["s3cret-token"]
    assert (got.headers["x-token"], got.headers["cookie"]) == ("s3cret-token", "a=b")
    notify(Target("custom-webhook", {**data, "json_data": None, "form_data": {"b": "{{name}}"}}), TOLD)
    assert (server.got[1].body, server.got[1].headers["content-type"]) == (
        b"b=mine",
        "application/x-www-form-urlencoded",
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"json_data": {}, "form_data": {}},
        {"json_data": {"a": "{{nothing}}"}},
        {"headers": {"X-A": "{{body}}"}},
        {"headers": {"X\r\nEvil": "1"}},
        {"cookies": {"a": "{{body}}"}},
        {"url": "file:///etc/passwd"},
        {"url": "http://host/ HTTP/1.1\r\nX: y"},
        {"url": "http://[::"},
        {"url": "http://host:99999/"},
        {"method": "CONNECT"},
        {"timeout": "soon"},
        {"headers": ["x"]},
    ],
)
def test_what_a_custom_webhook_cannot_be(server: Receiver, wrong: dict[str, Any]) -> None:
    data = {"name": "mine", "url": server.url, **wrong}
    assert not refused(Target("custom-webhook", data), Message("s", "line\r\nX-Evil: 1")).passes
    assert server.got == []


def test_a_webhook_answers_and_its_answer_is_bounded(server: Receiver) -> None:
    server.answer = b"y" * 1_000_000
    server.status = 404
    server.headers = {"X-Request-Id": "7", "Set-Cookie": "secret=1", "X-Forwarded-For": "10.0.0.1"}
    target = Target("webhook", {"url": server.url, "headers": {"Authorization": "Bearer t0ken-value"}})
    answered = call_webhook(target, '{"a": 1}', "key-7")
    assert (answered.status, len(answered.body)) == (404, 1000)
    assert answered.headers["x-request-id"] == "7"
    assert not {"set-cookie", "x-forwarded-for"} & set(answered.headers)
    (got,) = server.got
    assert got.headers["idempotency-key"] == "key-7"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["authorization"] == "Bearer t0ken-value"


def test_no_redirect_is_followed(server: Receiver) -> None:
    server.status, server.headers = 302, {"Location": f"{server.url}/elsewhere"}
    assert "302" in refused(Target("slack-webhook", {"url": server.url + "/here"})).message
    assert [got.path for got in server.got] == ["/here"]


@pytest.mark.parametrize(
    ("status", "passes"), [(400, False), (404, False), (429, True), (500, True), (503, True)]
)
def test_which_refusals_pass(server: Receiver, status: int, passes: bool) -> None:
    server.status = status
    error = refused(Target("slack-webhook", {"url": server.url}))
    assert (error.passes, str(status) in error.message) == (passes, True)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1"]
)
def test_a_private_address_is_refused_where_the_block_says_so(server: Receiver, host: str) -> None:
    port = server.url.rpartition(":")[2]
    data = {"url": f"http://{host}:{port}/x", "allow_private_urls": False}
    assert "private" in refused(Target("slack-webhook", data)).message
    with pytest.raises(NotSent, match="private"):
        call_webhook(Target("webhook", data), "", "")
    assert server.got == []


def test_nobody_there_may_pass() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert refused(Target("slack-webhook", {"url": f"http://127.0.0.1:{port}/secret-part-of-it"})).passes


def test_an_answer_that_is_not_http_may_pass() -> None:
    with socket.create_server(("127.0.0.1", 0)) as raw:

        def answer() -> None:
            peer, _ = raw.accept()
            peer.recv(1000)
            peer.sendall(b"SSH-2.0-x\r\n\r\n")
            peer.close()

        thread = threading.Thread(target=answer)
        thread.start()
        error = refused(Target("slack-webhook", {"url": f"http://127.0.0.1:{raw.getsockname()[1]}/"}))
        thread.join()
    assert error.passes


@pytest.mark.parametrize(
    ("start", "answers"),
    [
        (b"HTTP/1.1 200 OK\r\nX-A: ", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", True),
    ],
)
def test_a_server_that_answers_byte_by_byte_is_left(start: bytes, answers: bool) -> None:
    left, told = threading.Event(), ""
    with socket.create_server(("127.0.0.1", 0)) as raw:

        def answer() -> None:
            peer, _ = raw.accept()
            with peer, contextlib.suppress(OSError):
                peer.sendall(start)
                while not left.wait(0.01):
                    peer.sendall(b"x")

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            answered = send("POST", f"http://127.0.0.1:{raw.getsockname()[1]}/", b"", {}, seconds=0.3)
            assert answers
            assert answered.status == 200
        except NotSent as error:
            told = error.message  # on a busy machine the other side may not even have begun
        finally:
            left.set()
            thread.join()
    assert "within" in told or (answers and not told)


def test_an_error_shows_no_secret() -> None:
    target = Target(
        "slack-webhook", {"url": "https://hooks.slack.example/services/TSECRET/BSECRET/xyzzy-secret"}
    )
    assert "SECRET" not in repr(target)
    assert target.without_secrets(
        f"no route to {target.data['url']} (services/TSECRET/BSECRET/xyzzy-secret)"
    ) == ("no route to *** (services/TSECRET/BSECRET/***)")
    error = refused(Target("opsgenie-webhook", {"apikey": None, "secret": "very-secret-key"}))
    assert "very-secret-key" not in error.message


def test_a_block_of_another_type_says_so() -> None:
    assert "'slack-webhook'" in refused(Target("slack-webhok", {})).message
    with pytest.raises(NotSent, match="not a webhook block"):
        call_webhook(Target("slack-webhook", {}), "", "")


def test_a_block_without_its_values_is_refused() -> None:
    assert not refused(Target("slack-webhook", {})).passes


# Mail


class Mailbox:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.refuse = ""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.refuse:
            return self.refuse
        self.mails.append(envelope)
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, dict[str, Any]]]:
    box = Mailbox()

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=data.password == b"mail-password", handled=False)

    controller = Controller(
        box, hostname="127.0.0.1", port=0, authenticator=authenticate, auth_require_tls=False
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        controller.port = free.getsockname()[1]
    controller.start()
    try:
        yield (
            box,
            {
                "smtp_server": "127.0.0.1",
                "smtp_port": controller.port,
                "smtp_type": "INSECURE",
                "username": "me@example.org",
                "password": "mail-password",
                "to_emails": ["a@example.org", "b@example.org"],
            },
        )
    finally:
        controller.stop()


def test_mail_arrives_and_a_subject_adds_no_header(mailbox: tuple[Mailbox, dict[str, Any]]) -> None:
    box, data = mailbox
    notify(Target("email-server-credentials", data), Message("Flow\r\nBcc: evil@x.org", "Grüße", "k1"))
    (mail,) = box.mails
    assert (mail.mail_from, mail.rcpt_tos) == ("me@example.org", ["a@example.org", "b@example.org"])
    text = mail.content.decode()
    assert "Subject: Flow Bcc: evil@x.org" in text
    assert "\nBcc:" not in text
    assert "Message-ID: <k1@eparch>" in text


def test_a_block_of_prefects_collection_sends_mail(mailbox: tuple[Mailbox, dict[str, Any]]) -> None:
    """Kinds of connection are ports, servers have short names, the user gets what nobody else does."""
    box, data = mailbox
    data = {name: value for name, value in data.items() if name != "to_emails"} | {"smtp_type": 25}
    notify(Target("email-server-credentials", data), Message("Subject", "Body", ""))
    (mail,) = box.mails
    assert (mail.mail_from, mail.rcpt_tos) == ("me@example.org", ["me@example.org"])
    notify(
        Target(
            "email-server-credentials", {**data, "sender_email": "from@example.org", "to_emails": "x@y, z@y"}
        ),
        Message("Subject", "Body", ""),
    )
    assert (box.mails[1].mail_from, box.mails[1].rcpt_tos) == ("from@example.org", ["x@y", "z@y"])
    for given, host in (("OUTLOOK", "smtp-mail.outlook.com"), ("", "smtp.gmail.com"), ("my.host", "my.host")):
        assert server_of(Target("email-server-credentials", {"smtp_server": given})) == host
    schema = next(one for one in SYSTEM_TYPES if one.slug == "email-server-credentials").schema()
    assert {"sender_email", "to_emails"} <= schema["properties"].keys()


def test_what_a_mail_server_refuses(mailbox: tuple[Mailbox, dict[str, Any]]) -> None:
    box, data = mailbox
    error = refused(Target("email-server-credentials", {**data, "password": "wrong-password"}))
    assert (error.passes, "535" in error.message) == (False, True)
    box.refuse = "451 later"
    assert refused(Target("email-server-credentials", data)).passes
    assert "protect" in refused(Target("email-server-credentials", {**data, "smtp_type": "STARTTLS"})).message
    assert not refused(Target("email-server-credentials", {**data, "to_emails": ["a\r\nb@x"]})).passes
    assert not refused(Target("email-server-credentials", {**data, "smtp_type": "NONE"})).passes
    assert refused(Target("email-server-credentials", {**data, "smtp_port": 1})).passes
    assert not refused(Target("email-server-credentials", {"smtp_server": "127.0.0.1"})).passes


# Services of Apprise


def test_mattermost_by_apprise(server: Receiver) -> None:
    pytest.importorskip("apprise")
    port = int(server.url.rpartition(":")[2])
    data = {"hostname": "127.0.0.1", "port": port, "token": "abc123def456", "secure": False}
    notify(Target("mattermost-webhook", data), TOLD)
    (got,) = server.got
    assert got.path == "/hooks/abc123def456"
    assert "Flow failed" in json.loads(got.body)["text"]
    server.status = 500
    assert refused(Target("mattermost-webhook", data)).passes


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    real = importlib.import_module

    def absent(name: str, *args: Any) -> Any:
        if name.startswith("apprise"):
            raise builtins.ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", absent)
    for slug in (
        "pager-duty-webhook",
        "twilio-sms",
        "opsgenie-webhook",
        "sendgrid-email",
        "mattermost-webhook",
    ):
        data = dict.fromkeys(
            (
                "api_key",
                "apikey",
                "integration_key",
                "sender_email",
                "to_emails",
                "account_sid",
                "auth_token",
            ),
            "x",
        )
        data |= {"from_phone_number": "1", "to_phone_numbers": "2", "token": "t", "hostname": "h"}
        assert "eparch[notifications]" in refused(Target(slug, data)).message
