"""Blocks and variables of a real server: what they stand for, what is said of those that are not there."""

from __future__ import annotations

import traceback
from typing import Any
from uuid import uuid4

import pytest
from tests.steps.keeping import Keeper

from eparch.core import calls
from eparch.core.errors import BadRequest, Invalid, NotFound, StepFailed
from eparch.core.variables import VariableCreate
from eparch.steps.references import ServerReferences
from eparch.steps.runner import run_steps

SHELL = "prefect.deployments.steps.run_shell_script"


@pytest.fixture
def references(keeper: Keeper) -> ServerReferences:
    return ServerReferences(keeper.client)


def test_d19_a_block_with_one_value_stands_for_it_and_keeps_its_type(
    keeper: Keeper, references: ServerReferences
) -> None:
    keeper.keep("secret", "text", value="hunter22")
    keeper.keep("secret", "tree", value={"a": [{"b": 7}]})
    keeper.keep("local-file-system", "files", basepath="/srv")
    assert references.block(f"secret.{keeper.name('text')}") == "hunter22"
    assert references.block(f"secret.{keeper.name('tree')}.a[0].b") == 7
    assert references.block(f"secret.{keeper.name('tree')}.value.a") == [{"b": 7}]
    assert references.block(f"local-file-system.{keeper.name('files')}") == {"basepath": "/srv"}
    assert references.is_secret(f"secret.{keeper.name('tree')}.a[0].b")
    assert not references.is_secret(f"local-file-system.{keeper.name('files')}.basepath")
    assert references.hide("it is hunter22") == "it is ********"
    assert references.hide("/srv") == "/srv"


def test_d19_what_is_not_there_is_named_with_the_nearest(
    keeper: Keeper, references: ServerReferences
) -> None:
    keeper.keep("secret", "api-token", value={"key": "v"})
    name = keeper.name("api-token")
    with pytest.raises(NotFound, match="no block 'secret/") as caught:
        references.block(f"secret.{name.replace('api', 'apy')}")
    assert f"'secret/{name}'" in caught.value.fix
    with pytest.raises(NotFound, match=f"'secret/{name}' has no 'kye'") as caught:
        references.block(f"secret.{name}.kye")
    assert caught.value.fix == "Did you mean 'key'?"
    with pytest.raises(Invalid, match="does not name a block"):
        references.block("secret")
    with pytest.raises(NotFound, match="no variable"):
        references.variable("nothing")


def test_p10_a_document_by_its_id_or_slug(keeper: Keeper, references: ServerReferences) -> None:
    made = keeper.keep("local-file-system", "files", basepath="/srv")
    assert references.document({"block_document_id": str(made.id)}) == {"basepath": "/srv"}
    slug = f"local-file-system/{keeper.name('files')}"
    assert references.document({"block_document_slug": slug}) == {"basepath": "/srv"}
    with pytest.raises(NotFound, match="no block with the id"):
        references.document({"block_document_id": str(uuid4())})
    with pytest.raises(BadRequest, match="no valid block_document_id"):
        references.document({"block": "x"})


def test_d19_steps_are_given_secrets_and_tell_none(keeper: Keeper) -> None:
    secret = f"s3cret-{uuid4().hex}"
    keeper.keep("secret", "token", value=secret)
    keeper.client.send(calls.create_variable(body=VariableCreate(name=keeper.name("word"), value="hello")))
    token = f"{{{{ prefect.blocks.secret.{keeper.name('token')} }}}}"
    word = f"{{{{ prefect.variables.{keeper.name('word')} }}}}"
    told: list[str] = []
    step = {SHELL: {"script": f"echo {word} {token}\nsh -c 'echo $T'", "env": {"T": token}}}
    outputs = run_steps([step], on_output=told.append, references=ServerReferences(keeper.client))
    assert outputs["stdout"] == f"hello {secret}\n{secret}"
    assert told == ["hello ********", "********"]


@pytest.mark.parametrize(
    "step",
    [
        {SHELL: {"script": "sh -c 'echo SECRET >&2; exit 3' SECRET"}},
        {SHELL: {"script": "SECRET"}},
        {"prefect.deployments.steps.set_working_directory": {"directory": "/SECRET"}},
        {"builtins.int": {"x": "SECRET"}},
        {"json.loads": {"s": "SECRET"}},
    ],
)
def test_d19_a_step_that_fails_tells_no_secret(keeper: Keeper, step: dict[str, Any]) -> None:
    secret = f"s3cret-{uuid4().hex}"
    keeper.keep("secret", "token", value=secret)
    place = f"{{{{ prefect.blocks.secret.{keeper.name('token')} }}}}"
    ((name, arguments),) = step.items()
    filled = {name: {key: value.replace("SECRET", place) for key, value in arguments.items()}}
    told: list[str] = []
    with pytest.raises(StepFailed) as caught:
        run_steps([filled], on_output=told.append, references=ServerReferences(keeper.client))
    error = caught.value
    everything = [*told, error.message, error.why, error.fix, *traceback.format_exception(error)]
    assert secret not in "\n".join(everything)


def test_d19_a_block_that_is_no_single_value_cannot_stand_within_text(keeper: Keeper) -> None:
    keeper.keep("secret", "tree", value={"a": 1})
    place = f"{{{{ prefect.blocks.secret.{keeper.name('tree')} }}}}"
    with pytest.raises(StepFailed, match="within text is no single value"):
        run_steps([{SHELL: {"script": f"echo {place}"}}], references=ServerReferences(keeper.client))
