"""Acceptance: blocks on the command line against our server, and a new key for them."""

import json
from uuid import uuid4

import pytest

from eparch.core import calls
from eparch.core.blocks import BlockDocumentCreate, BlockSchemaCreate, BlockTypeCreate
from eparch.orchestration.keys import KeyFile
from eparch.orchestration.sealing import key_name

SECRET = "5ecret-cli"


def test_block_through_its_life(client, run):
    name = f"key-{uuid4().hex[:8]}"
    data = json.dumps({"value": SECRET})
    made = run("block", "create", "secret", "--name", name, "--data", data, "-o", "json", code=0)
    assert SECRET not in made.out + made.err
    assert made.json()["data"] == {"value": "********"}
    assert f"secret/{name}" in run("block", "ls", "-o", "name", code=0).out.split()
    shown = run("block", "inspect", f"secret/{name}", code=0)
    assert "********" in shown.out
    assert SECRET not in shown.out
    assert SECRET in run("block", "inspect", f"secret/{name}", "--show-secrets", code=0).out
    by_id = run("block", "inspect", "--id", made.json()["id"], "-o", "json", code=0).json()
    assert by_id["name"] == name
    assert "--overwrite" in run("block", "create", "secret", "-n", name, "-d", data, code=5).err
    run("block", "create", "secret", "-n", name, "-d", '{"value": [1]}', "--overwrite", code=0)
    found = run("block", "inspect", f"secret/{name}", "--show-secrets", "-o", "json", code=0).json()
    assert found["data"] == {"value": [1]}
    assert f"Did you mean 'secret/{name}'?" in run("block", "inspect", f"secret/{name[:-1]}", code=3).err
    run("block", "delete", f"secret/{name}", "--dry-run", code=0)
    run("block", "delete", f"secret/{name}", code=2)
    run("block", "delete", f"secret/{name}", "-y", code=0)
    run("block", "delete", f"secret/{name}", "-y", code=3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "secrte", "-n", "a", "-d", "{}"), "Did you mean 'secret'?"),
        (("create", "secret", "-n", "a", "-d", "{}"), "lacks 'value'"),
        (("create", "secret", "-d", '{"value": 1}'), "Add --name"),
        (("create", "secret", "-n", "a"), "Add --data"),
        (("create", "secret", "-n", "a", "-d", "[]"), "JSON object"),
        (("create", "secret", "-n", "A b", "-d", '{"value": "5ecret-cli"}'), "name"),
        (("inspect",), "TYPE/NAME"),
        (("inspect", "secret"), "does not say which type"),
        (("delete", "secret/nobody", "-y"), "There is no block"),
        (("type", "inspect", "scret"), "Did you mean 'secret'?"),
        (("type", "delete", "secret", "-y"), "protected"),
    ],
)
def test_what_cannot_be_done_is_told(client, run, arguments, said):
    result = run("block", *arguments)
    assert result.code not in (0, 1)
    assert said in result.err
    assert SECRET not in result.err


def test_block_types(client, run):
    slug = f"type-{uuid4().hex[:8]}"
    type_ = client.send(calls.create_block_type(body=BlockTypeCreate(name=slug, slug=slug)))
    fields = {"properties": {"user": {"description": "who it is"}}}
    body = BlockSchemaCreate(block_type_id=type_.id, fields=fields)
    schema = client.send(calls.create_block_schema(body=body))
    document = BlockDocumentCreate(name="one", block_type_id=type_.id, block_schema_id=schema.id)
    client.send(calls.create_block_document(body=document))
    slugs = run("block", "type", "ls", "-o", "name", code=0).out.split()
    assert {slug, "secret", "slack-webhook", "smb"} <= set(slugs)
    assert slugs == run("block", "types", "ls", "-o", "name", code=0).out.split()
    assert "who it is" in run("block", "type", "inspect", slug, code=0).out
    assert "with 1 block" in run("block", "type", "delete", slug, "--dry-run", code=0).err
    run("block", "type", "delete", slug, "-y", code=0)
    assert slug not in run("block", "type", "ls", code=0).out


def test_a_person_is_asked_for_the_fields(client, eparch):
    name = f"hook-{uuid4().hex[:8]}"
    answers = "\n".join([name, "", f"https://h.example/{SECRET}", '{"A": "b"}', "", "false"]) + "\n"
    done = eparch("block", "create", "webhook", "--prompt", input=answers)
    assert "Where the request goes." in done.err
    found = eparch("block", "inspect", f"webhook/{name}", "--show-secrets", "-o", "json").json()["data"]
    assert found == {"url": f"https://h.example/{SECRET}", "headers": {"A": "b"}, "verify": False}


@pytest.fixture
def home(eparch, tmp_path):
    """The home; the server that a test leaves in it is stopped."""
    yield tmp_path / "home"
    eparch("server", "stop", code=None)


def test_a_new_key_for_a_running_server(eparch, home):
    eparch("server", "start", "--background", "--port", "0")
    eparch("block", "create", "secret", "-n", "one", "-d", json.dumps({"value": SECRET}))
    file = KeyFile(home / "eparch.db.key")
    (old,) = file.keys(False)

    def value():
        return eparch("block", "inspect", "secret/one", "--show-secrets", "-o", "json").json()["data"][
            "value"
        ]

    done = eparch("server", "rotate-keys", "-o", "json").json()
    assert (done["sealed"], done["unopened"], done["forgotten"]) == (1, [], [])
    assert value() == SECRET
    again = eparch("server", "rotate-keys", "--resume", "--forget", "-o", "json").json()
    assert (again["key"], again["sealed"], again["forgotten"]) == (done["key"], 0, [key_name(old)])
    assert [key_name(key) for key in file.keys(False)] == [done["key"]]
    assert value() == SECRET
    file.path.write_text(old.hex())
    lost = eparch("block", "inspect", "secret/one", "--show-secrets", code=None)
    assert lost.code != 0
    assert "'Secret/one' cannot be opened" in lost.err
    assert "eparch.db.key" in lost.err
    assert "Traceback" not in lost.err
    assert "secret/one" in eparch("block", "ls", "-o", "name").out
    assert SECRET not in (home / "server.log").read_text()


def test_keys_of_the_setting(eparch, home):
    one, two = "11" * 32, "22" * 32
    keys = {"EPARCH_SERVER_ENCRYPTION_KEYS": one}
    eparch("server", "start", "--background", "--port", "0", env=keys)
    eparch("block", "create", "secret", "-n", "one", "-d", json.dumps({"value": SECRET}))
    assert "--forget" in eparch("server", "rotate-keys", "--forget", env=keys, code=2).err
    both = {"EPARCH_SERVER_ENCRYPTION_KEYS": f"{two},{one}"}
    done = eparch("server", "rotate-keys", "-o", "json", env=both).json()
    assert (done["sealed"], done["key"]) == (1, key_name(bytes.fromhex(two)))
    assert not (home / "eparch.db.key").exists()
    lost = eparch("server", "rotate-keys", env={"EPARCH_SERVER_ENCRYPTION_KEYS": "33" * 32}, code=5)
    assert "'Secret/one'" in lost.err
    wrong = eparch("server", "rotate-keys", env={"EPARCH_SERVER_ENCRYPTION_KEYS": "geheim"}, code=2)
    assert "geheim" not in wrong.err
    shown = eparch("config", "view", env=keys).out
    assert one not in shown


BLOCKS = """
from eparch.blocks import Block, SecretStr

class CliInner(Block):
    token: SecretStr

class CliOuter(Block):
    inner: CliInner
"""


def test_block_register_takes_the_classes_of_a_file_or_module(client, run, tmp_path):
    (tmp_path / "cli_blocks.py").write_text(BLOCKS)
    (tmp_path / "broken_blocks.py").write_text("1 / 0")
    (tmp_path / "empty_blocks.py").write_text("")
    done = run("block", "register", "-f", str(tmp_path / "cli_blocks.py"), "-o", "name", code=0)
    assert done.out.split() == ["cliinner", "cliouter"]
    assert client.send(calls.read_block_type_by_slug(slug="cliouter")).name == "CliOuter"
    assert "slack-webhook" in run("block", "register", "-m", "eparch.sdk.blocks.notifications", code=0).out
    assert (
        "ZeroDivisionError" in run("block", "register", "-f", str(tmp_path / "broken_blocks.py"), code=2).err
    )
    assert "no class" in run("block", "register", "-f", str(tmp_path / "empty_blocks.py"), code=2).err
    assert "no module" in run("block", "register", "-m", "gone_blocks", code=2).err
    run("block", "register", code=2)
