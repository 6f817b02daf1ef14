"""Blocks in a project's file, with a real server: what is resolved, and what is never stored (row D19)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from tests.conftest import Server
from tests.steps.keeping import Keeper

from eparch.client.http import Client
from eparch.core import calls
from eparch.core.errors import SourceErrors
from eparch.core.pools import WorkPoolCreate
from eparch.deploy.apply import deploy
from eparch.deploy.request import DeployRequest
from eparch.settings import load

FILE = """
build:
  - prefect.deployments.steps.run_shell_script:
      id: built
      script: sh -c 'echo made with {{ prefect.blocks.secret.SECRET }}; printf "%s" "$TAG" > tag'
      env: {TAG: "{{ prefect.blocks.secret.SECRET }}"}
pull:
  - prefect.deployments.steps.git_clone:
      repository: https://example.org/x.git
      access_token: "{{ prefect.blocks.secret.SECRET }}"
deployments:
  - name: NAME
    entrypoint: flow.py:count
    description: code in {{ prefect.blocks.local-file-system.FILES.basepath }}
    work_pool:
      name: POOL
      job_variables:
        env: {TOKEN: "{{ prefect.blocks.secret.SECRET }}"}
"""


@pytest.fixture
def keeper(server: Server, tmp_path: Path) -> Iterator[Keeper]:
    (tmp_path / "flow.py").write_text("from eparch import flow\n@flow\ndef count(): ...\n")
    with Client(server.api_url) as client:
        yield Keeper(client)


def run(keeper: Keeper, folder: Path, text: str) -> list[str]:
    """Deploy a file; what was told."""
    for word in ("SECRET", "FILES", "NAME", "POOL"):
        text = text.replace(word, keeper.name(word.lower()))
    (folder / "prefect.yaml").write_text(text)
    told: list[str] = []
    deploy(DeployRequest(all=True), keeper.client, load({}, folder), told.append, root=folder)
    return told


def test_d19_blocks_are_read_by_build_steps_and_stay_references_elsewhere(
    keeper: Keeper, tmp_path: Path
) -> None:
    secret = f"s3cret-{uuid4().hex}"
    keeper.keep("secret", "secret", value=secret)
    keeper.keep("local-file-system", "files", basepath="/srv/code")
    pool = WorkPoolCreate(name=keeper.name("pool"), type="process")
    keeper.client.send(calls.create_work_pool(body=pool))
    told = run(keeper, tmp_path, FILE)
    assert (tmp_path / "tag").read_text() == secret
    assert "made with ********" in told
    assert secret not in "\n".join(told)
    call = calls.read_deployment_by_name(flow_name="count", deployment_name=keeper.name("name"))
    stored = keeper.client.send(call)
    reference = f"{{{{ prefect.blocks.secret.{keeper.name('secret')} }}}}"
    assert stored.job_variables == {"env": {"TOKEN": reference}}
    assert stored.pull_steps is not None
    assert stored.pull_steps[0]["prefect.deployments.steps.git_clone"]["access_token"] == reference
    assert stored.description == "code in /srv/code"


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("secret.SECRET", "is secret"),
        ("secret.SECERT", "There is no block 'secret/SECERT'."),
        ("secret", "does not name a block"),
    ],
)
def test_d19_no_secret_is_stored_in_a_deployment(
    keeper: Keeper, tmp_path: Path, block: str, said: str
) -> None:
    keeper.keep("secret", "secret", value="s3cret-of-mine")
    file = FILE[FILE.index("deployments:") :].replace("code in", f"a {{{{ prefect.blocks.{block} }}}}")
    keeper.keep("local-file-system", "files", basepath="/srv/code")
    with pytest.raises(SourceErrors) as caught:
        run(keeper, tmp_path, file)
    (error,) = caught.value.errors
    assert said in f"{error.message} {error.why}"
    assert error.line == 4
    assert "s3cret" not in str(caught.value)
