"""Prefect's own client, unmodified: blocks saved, loaded, nested, registered and deleted on our server."""

from __future__ import annotations

from bench.targets import Session

CODE = """
from prefect.blocks.core import Block
from prefect.blocks.fields import SecretDict
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.filesystems import LocalFileSystem
from pydantic import SecretStr


class InteropLogin(Block):
    _block_type_name = "Interop Login"
    user: str
    password: SecretStr
    env: SecretDict = {}


class InteropSite(Block):
    _block_type_name = "Interop Site"
    url: str
    login: InteropLogin


Secret(value="hunter2").save("interop")
Secret(value={"a": [1]}).save("interop-json")
assert Secret.load("interop").get() == "hunter2"
assert Secret.load("interop-json").get() == {"a": [1]}
Secret(value="hunter3").save("interop", overwrite=True)
assert Block.load("secret/interop").get() == "hunter3"
login = InteropLogin(user="ada", password="pa55", env={"K": "v"})
login.save("login")
InteropSite(url="https://x.example", login=login).save("site")
site = InteropSite.load("site")
assert (site.url, site.login.user) == ("https://x.example", "ada")
assert site.login.password.get_secret_value() == "pa55"
assert site.login.env.get_secret_value() == {"K": "v"}
assert site.login._block_document_name == "login"
InteropLogin(user="bob", password="pa56").save("login", overwrite=True)
assert InteropSite.load("site").login.user == "bob"
inline = InteropSite(url="u", login=InteropLogin(user="eve", password="pa57"))
inline.save("inline")
assert InteropSite.load("inline").login.password.get_secret_value() == "pa57"
assert InteropSite.load_from_ref({"block_document_id": str(site._block_document_id)}).url == site.url
LocalFileSystem(basepath="/srv").save("files")
with get_client(sync_client=True) as client:
    masked = client.read_block_documents(include_secrets=False)
    print("MASKED", [one.model_dump_json() for one in masked])
    names = [one.name for one in client.read_block_types()]
    assert "Interop Site" in names
InteropSite.delete("inline")
try:
    InteropSite.load("inline")
except ValueError as error:
    print("gone", "Unable to find" in str(error))
"""


def test_its_blocks_in_code(server: Session, stock: Session) -> None:
    told = stock.run_python(CODE)
    assert "gone True" in told
    shown = next(line for line in told.splitlines() if line.startswith("MASKED"))
    assert "interop" in shown
    assert "********" in shown
    for secret in ("hunter2", "hunter3", "pa55", "pa56", "pa57"):
        assert secret not in shown


def test_its_block_commands(server: Session, stock: Session) -> None:
    stock.run_python('from prefect.blocks.system import Secret\nSecret(value="hunter9").save("cli")')
    done = stock.run("block", "register", "-m", "prefect.blocks.notifications").stdout
    assert "Slack Webhook" in done
    slugs = {one["slug"] for one in server.call("POST", "/block_types/filter", {})}
    assert {"secret", "slack-webhook", "custom-webhook"} <= slugs
    assert "secret/cli" in stock.run("block", "ls").stdout
    shown = stock.run("block", "inspect", "secret/cli").stdout
    assert "hunter9" not in shown
    assert "slack-webhook" in stock.run("block", "type", "ls").stdout
    assert "Secret" in stock.run("block", "type", "inspect", "secret").stdout
    assert "secret" in stock.run("block", "create", "secret").stdout
    stock.run("block", "delete", "secret/cli")
    found = server.call("POST", "/block_documents/filter", {"block_documents": {"name": {"any_": ["cli"]}}})
    assert found == []
    stock.run("--no-prompt", "block", "type", "delete", "slack-webhook")
    slugs = {one["slug"] for one in server.call("POST", "/block_types/filter", {})}
    assert "slack-webhook" not in slugs
