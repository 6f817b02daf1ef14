"""Blocks in code, on a real server (row B11): typed, nested, saved, loaded; their secrets told nowhere."""

from __future__ import annotations

import asyncio
import datetime
import enum
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import pydantic
import pytest
from tests.conftest import Server

from eparch import flow
from eparch.blocks import (
    Block,
    Field,
    LocalFileSystem,
    RemoteFileSystem,
    Secret,
    SecretDict,
    SecretStr,
    Webhook,
)
from eparch.client.http import Client, connect
from eparch.core import calls
from eparch.core.errors import BlockExists, NoSuchBlock, ParametersInvalid, Unreachable, Usage
from eparch.sdk import session as sessions
from eparch.sdk.session import Session
from eparch.settings import load

SECRET = "s3cret-of-mine"


class Shade(enum.Enum):
    DARK = "dark"


class SdkLogin(Block):
    """Who may come in.

    Attributes:
        user: the name
    """

    user: str
    password: SecretStr
    env: SecretDict = Field(default_factory=lambda: SecretDict({}))


class SdkSite(Block):
    _block_type_name = "A Site"
    _block_schema_capabilities = ["visit"]

    url: str
    login: SdkLogin
    spare: SdkLogin | None = None
    others: list[SdkLogin] = []
    when: datetime.datetime | None = None
    shade: Shade = Shade.DARK
    kind: Literal["a", "b"] = "a"
    tries: int = Field(default=3, description="How often.")


class SdkModern(Block):
    token: pydantic.SecretStr
    retries: int = pydantic.Field(default=2, description="Of pydantic.")


@pytest.fixture
def client(server: Server, tmp_path: Path) -> Iterator[Client]:
    """This process is connected to the server."""
    settings = load({"EPARCH_API_URL": server.api_url, "EPARCH_HOME": str(tmp_path)}, tmp_path)
    before, sessions._current = sessions._current, None
    session = sessions.use(Session(settings, connect(settings)))
    assert isinstance(session.client, Client)
    yield session.client
    sessions.leave()
    sessions._current = before


@pytest.fixture
def name() -> str:
    return f"b-{uuid4().hex[:8]}"


def test_b11_what_is_saved_is_loaded_with_all_within(client: Client, name: str) -> None:
    login = SdkLogin(user="ada", password=SECRET, env={"K": "v"})
    saved = login.save(name)
    assert login._block_document_id == saved
    when = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    spare = {"user": "eve", "password": "other-secret"}
    site = SdkSite(url="u", login=login, spare=spare, others=[login], when=when, kind="b", tries="4")
    assert isinstance(site.spare, SdkLogin)
    assert site.tries == 4
    site.save(name)
    loaded = SdkSite.load(name)
    assert loaded == site
    assert loaded.login._block_document_name == name
    assert loaded.login.password.get_secret_value() == SECRET
    assert loaded.login.env.get_secret_value() == {"K": "v"}
    assert loaded.spare.password.get_secret_value() == "other-secret"
    assert (loaded.when, loaded.shade) == (when, Shade.DARK)
    # A block within is a reference: it is read anew.
    SdkLogin(user="bob", password="new-secret").save(name, overwrite=True)
    assert Block.load(f"a-site/{name}").login.user == "bob"
    assert SdkSite.load_from_ref({"block_document_id": str(site._block_document_id)}).url == "u"
    assert SdkSite.load_from_ref({"block_document_slug": f"a-site/{name}"}).url == "u"
    loaded.url = "changed"
    loaded.save(overwrite=True)
    assert SdkSite.load(name).url == "changed"
    Block.delete(f"a-site/{name}")
    with pytest.raises(NoSuchBlock):
        SdkSite.load(name)


def test_b11_in_async_code_all_of_it_is_awaited(client: Client, name: str) -> None:
    async def main() -> None:
        await SdkLogin(user="ada", password=SECRET).save(name)
        assert (await SdkLogin.load(name)).user == "ada"
        assert (await SdkLogin.aload(name)).user == "ada"
        await SdkLogin(user="bob", password=SECRET).asave(name, overwrite=True)
        assert SdkLogin.load(name, _sync=True).user == "bob"
        await SdkLogin.adelete(name)

    asyncio.run(main())


def test_b11_secrets_are_neither_printed_nor_logged_nor_in_errors(
    client: Client, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    login = SdkLogin(user="ada", password=SECRET, env={"K": SECRET})
    secret: Secret[str] = Secret(value=SECRET)
    SdkSite(url="u", login=login).save(name)
    secret.save(name)
    loaded = Secret.load(name)
    assert loaded.get() == SECRET
    with pytest.raises(ParametersInvalid) as caught:
        SdkLogin(user="ada", password=[SECRET], env=SECRET)
    shown = [repr(login), str(login), f"{secret}", repr(loaded), repr(login.model_dump()), str(caught.value)]
    masked = client.send(calls.read_block_documents(body={}))
    shown += [repr(one.data) for one in masked]
    assert SECRET not in "\n".join([*shown, caplog.text])
    assert "ada" in repr(login)


def test_b11_a_secret_text_that_is_json_is_read(client: Client, name: str) -> None:
    Secret(value='{"a": [1]}').save(name)
    assert Secret.load(name).get() == {"a": [1]}
    Secret(value={"b": 2}).save(name, overwrite=True)
    assert Block.load(f"secret/{name}").get() == {"b": 2}


def test_what_does_not_fit_is_refused_all_at_once() -> None:
    with pytest.raises(ParametersInvalid) as caught:
        SdkSite(ulr="u", login={"user": 1}, tries="many")
    said = caught.value.message
    for part in ("'ulr' is no field of SdkSite. Did you mean 'url'?", "needs 'url'", "'login'", "'tries'"):
        assert part in said


def test_a_name_that_is_taken_or_unknown_is_said(client: Client, name: str) -> None:
    SdkLogin(user="a", password="b").save(name)
    with pytest.raises(BlockExists, match="already"):
        SdkLogin(user="a", password="b").save(name)
    with pytest.raises(ValueError, match="There is no block") as caught:
        SdkLogin.load(name[:-1])
    assert isinstance(caught.value, NoSuchBlock)
    assert f"'sdklogin/{name}'" in caught.value.fix
    with pytest.raises(Usage, match="no name"):
        SdkLogin(user="a", password="b").save()
    with pytest.raises(Usage, match="which type"):
        Block.load("x")
    with pytest.raises(Usage, match="no fields"):
        Block.register_type_and_schema()


def test_a_document_of_another_version_of_the_class(client: Client, name: str) -> None:
    class Old(Block):
        _block_type_name = "Versioned"
        a: int
        gone: str = "x"

    Old(a=1).save(name)

    class New(Block):
        _block_type_name = "Versioned"
        a: int
        more: str

    with pytest.raises(ParametersInvalid, match="needs 'more'"):
        New.load(name)
    loaded = New.load(name, validate=False)
    assert (loaded.a, loaded.more, loaded.gone) == (1, None, "x")
    loaded.more = "now"
    loaded.save(name, overwrite=True)
    assert New.load(name).more == "now"


def test_an_anonymous_block_has_an_id_only(client: Client) -> None:
    id_ = SdkLogin(user="a", password="b").save_anonymously()
    assert SdkLogin.load_from_ref(id_).user == "a"
    assert client.send(calls.read_block_document(id=id_)).is_anonymous


def test_fields_and_secrets_of_pydantic_do(client: Client, name: str) -> None:
    SdkModern(token=SECRET).save(name)
    loaded = SdkModern.load(name)
    assert isinstance(loaded.token, pydantic.SecretStr)
    assert loaded.token.get_secret_value() == SECRET
    assert loaded.retries == 2
    assert SdkModern.model_json_schema()["properties"]["retries"]["description"] == "Of pydantic."
    assert SdkModern.model_json_schema()["secret_fields"] == ["token"]


def test_b11_a_flow_takes_a_saved_block_for_a_parameter(client: Client, name: str) -> None:
    @flow
    def enter(login: SdkLogin, spare: SdkLogin | None = None) -> str:
        return login.password.get_secret_value()

    id_ = SdkLogin(user="ada", password=SECRET).save(name)
    assert enter({"$ref": {"block_document_id": str(id_)}}) == SECRET
    assert enter({"$ref": {"block_document_slug": f"sdklogin/{name}"}}) == SECRET
    assert enter({"user": "ada", "password": "other-secret"}) == "other-secret"
    assert enter(SdkLogin.load(name), SdkLogin(user="eve", password=SECRET)) == SECRET
    with pytest.raises(ParametersInvalid, match="'login'"):
        enter(7)
    runs = client.send(calls.read_flow_runs(body={}))
    assert {"$ref": {"block_document_id": str(id_)}} in [
        run.parameters["login"] for run in runs if run.parameters.get("spare")
    ]
    assert SECRET not in repr(runs)


def test_the_schema_of_a_class_and_what_it_is_registered_as(client: Client) -> None:
    schema = SdkSite.model_json_schema()
    paths = [
        "login.password",
        "login.env.*",
        "spare.password",
        "spare.env.*",
        "others.password",
        "others.env.*",
    ]
    assert schema["secret_fields"] == paths
    assert set(schema["block_schema_references"]) == {"login", "spare", "others"}
    assert schema["definitions"]["SdkLogin"]["description"] == "Who may come in."
    SdkSite.register_type_and_schema()
    found = client.send(calls.read_block_schema_by_checksum(checksum=SdkSite.get_checksum()))
    assert found.block_type is not None
    assert (found.block_type.slug, found.block_type.name, found.capabilities) == (
        "a-site",
        "A Site",
        ["visit"],
    )


def test_a_class_that_refers_to_itself_is_refused() -> None:
    class Circle(Block):
        inner: Any = None

    Circle.block_fields()["inner"] = Circle.block_fields()["inner"]._replace(annotation=Circle)
    with pytest.raises(Usage, match="refers to itself"):
        Circle.model_json_schema()


def test_files_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = LocalFileSystem(basepath=str(tmp_path / "base"))
    files.write_path("a/b.txt", b"x")
    assert files.read_path("a/b.txt") == b"x"
    with pytest.raises(ValueError, match="outside of the base path"):
        files.read_path("../other")
    with pytest.raises(ValueError, match="no file"):
        files.read_path("none")
    files.get_directory("a", str(tmp_path / "copy"))
    assert (tmp_path / "copy/b.txt").read_bytes() == b"x"
    files.put_directory(str(tmp_path / "copy"), "put")
    assert files.read_path("put/b.txt") == b"x"


def test_files_anywhere() -> None:
    files = RemoteFileSystem(basepath=f"memory://{uuid4().hex}/base/")
    files.write_path("a/b.txt", b"x")
    assert files.read_path("a/b.txt") == b"x"
    assert files.read_path(f"{files.basepath}a/b.txt") == b"x"
    for path in ("../x", "file:///etc/passwd"):
        with pytest.raises(ValueError, match="outside of the base path"):
            files.read_path(path)
    with pytest.raises(Usage, match="no scheme"):
        RemoteFileSystem(basepath="/x")
    assert SECRET not in repr(RemoteFileSystem(basepath="memory://x", settings={"key": SECRET}))


def test_a_webhook_sends_what_it_is_given(server: Server) -> None:
    hook = Webhook(method="POST", url=f"{server.api_url}/flows/", headers={"X-Own": SECRET})
    answer = hook.call({"name": "from-a-webhook"})
    assert answer.status_code == 201
    assert answer.json()["name"] == "from-a-webhook"
    assert hook.call({"no": 1}).status_code == 422
    with pytest.raises(Usage):
        Webhook(url="file:///etc/passwd").call()
    with pytest.raises(Unreachable) as caught:
        Webhook(url=f"http://127.0.0.1:1/{SECRET}").call()
    assert SECRET not in f"{caught.value} {caught.value.why} {hook!r}"
