"""Blocks of Prefect's classes and ours, crosswise on one server: each loads what the other saved."""

from __future__ import annotations

import ast

from bench.targets import Session

CLASSES = """
class CrossLogin(Block):
    '''Who may come in.'''
    user: str
    password: SecretStr
    env: SecretDict = Field(default_factory=dict)


class CrossSite(Block):
    _block_type_name = "Cross Site"
    url: str = Field(description="Where it is.")
    login: CrossLogin
    spare: Optional[CrossLogin] = None
    tries: int = 3
    ports: dict[str, int] = {}
    names: list[str] = []
    when: Optional[datetime.datetime] = None
    kind: Literal["a", "b"] = "a"


LOGIN = "cross-" + ME
CrossLogin(user=ME, password="pa55-" + ME, env={"K": ME}).save(LOGIN)
CrossSite(url="u-" + ME, login=CrossLogin.load(LOGIN), ports={"x": 1}, names=["n"]).save(LOGIN)
CrossSite(url="inline", login=CrossLogin(user="in", password="pa56")).save(LOGIN + "-inline")
Secret(value="text-" + ME).save(LOGIN)
Secret(value={"a": [1]}).save(LOGIN + "-json")
LocalFileSystem(basepath="/srv/" + ME).save(LOGIN)
RemoteFileSystem(basepath="memory://" + ME, settings={"k": "v"}).save(LOGIN)
Webhook(url="https://x.example/" + ME, headers={"H": "v"}).save(LOGIN)
SlackWebhook(url="https://hooks.example/" + ME).save(LOGIN)
"""

LOADED = """
LOGIN = "cross-" + OTHER
site = CrossSite.load(LOGIN)
assert (site.url, site.ports, site.names, site.tries, site.spare) == ("u-" + OTHER, {"x": 1}, ["n"], 3, None)
assert (site.login.user, site.login._block_document_name) == (OTHER, LOGIN)
assert site.login.password.get_secret_value() == "pa55-" + OTHER
assert site.login.env.get_secret_value() == {"K": OTHER}
assert CrossSite.load(LOGIN + "-inline").login.password.get_secret_value() == "pa56"
assert Block.load("secret/" + LOGIN).get() == "text-" + OTHER
assert Secret.load(LOGIN + "-json").get() == {"a": [1]}
assert LocalFileSystem.load(LOGIN).basepath == "/srv/" + OTHER
assert RemoteFileSystem.load(LOGIN).settings == {"k": "v"}
assert Webhook.load(LOGIN).url.get_secret_value() == "https://x.example/" + OTHER
assert Webhook.load(LOGIN).headers.get_secret_value() == {"H": "v"}
assert SlackWebhook.load(LOGIN).url.get_secret_value() == "https://hooks.example/" + OTHER
CrossLogin(user="changed", password="pa57").save(LOGIN, overwrite=True)
assert CrossSite.load(LOGIN).login.user == "changed"
"""

IMPORTS = """
import datetime
from typing import Literal, Optional

from prefect.blocks.core import Block
from prefect.blocks.fields import SecretDict
from prefect.blocks.notifications import SlackWebhook
from prefect.blocks.system import Secret
from prefect.blocks.webhook import Webhook
from prefect.filesystems import LocalFileSystem, RemoteFileSystem
"""

STOCK = f"""{IMPORTS}
from pydantic import Field, SecretStr

checksum = Block._calculate_schema_checksum.__func__
"""

OURS = f"""
from eparch.sdk.compat import install

install()
{IMPORTS}
from eparch.blocks import Field, SecretStr

checksum = Block.get_checksum.__func__
"""


def script(imports: str, who: str, other: str = "") -> str:
    """What one side runs: it defines and saves, then loads what the other saved, if one is named."""
    sums = "print([checksum(CrossLogin), checksum(CrossSite)])"
    names = f"ME, OTHER = {who!r}, {other!r}"
    return "\n".join([imports, names, CLASSES, sums, LOADED if other else ""])


def test_each_loads_what_the_other_saved(server: Session, ours: Session, stock: Session) -> None:
    first = stock.run_python(script(STOCK, "stock"))
    second = ours.run_python(script(OURS, "ours", "stock"))
    # The same class has the same schema, so neither warns of the other's.
    assert ast.literal_eval(first.splitlines()[-1]) == ast.literal_eval(second.splitlines()[-1])
    stock.run_python(script(STOCK, "again", "ours"))
    found = server.call("POST", "/block_documents/filter", {})
    for secret in ("pa55-", "pa56", "text-stock", "hooks.example"):
        assert secret not in str(found)
