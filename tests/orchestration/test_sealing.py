"""Sealing: what was sealed is opened again, by its keys only, for its owner only, as it was only (ADR 7)."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eparch.core.errors import SettingInvalid
from eparch.orchestration.keys import KeyFile, KeysUnusable, key_path, open_keyring, parse_keys
from eparch.orchestration.sealing import Keyring, Unopened, key_name

ONE, TWO = bytes(range(32)), bytes(range(32, 64))
OWNER = uuid4()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def ring(*keys: bytes) -> Keyring:
    return Keyring(lambda make: keys, "the place of the keys")


@given(st.dictionaries(st.text(max_size=10), JSON, max_size=5), st.uuids())
def test_what_was_sealed_is_opened_as_it_was(data: dict[str, Any], owner: Any) -> None:
    name, sealed = ring(ONE).seal(owner, data)
    assert ring(TWO, ONE).open(owner, name, sealed, "It") == data


def test_the_first_key_seals_and_no_sealing_is_like_another() -> None:
    keys = ring(ONE, TWO)
    (name, one), (_, two) = keys.seal(OWNER, {"a": "secret"}), keys.seal(OWNER, {"a": "secret"})
    assert name == key_name(ONE)
    assert one != two
    assert b"secret" not in one


@given(st.data())
def test_any_changed_byte_is_detected(data: st.DataObject) -> None:
    name, sealed = ring(ONE).seal(OWNER, {"a": "secret"})
    at = data.draw(st.integers(0, len(sealed) - 1))
    changed = sealed[:at] + bytes([sealed[at] ^ data.draw(st.integers(1, 255))]) + sealed[at + 1 :]
    with pytest.raises(Unopened, match="was changed"):
        ring(ONE).open(OWNER, name, changed, "It")


@given(st.binary(max_size=60))
def test_anything_else_is_refused(sealed: bytes) -> None:
    with pytest.raises(Unopened):
        ring(ONE).open(OWNER, key_name(ONE), sealed, "It")


def test_what_belongs_to_another_document_is_not_opened() -> None:
    name, sealed = ring(ONE).seal(OWNER, {"a": 1})
    with pytest.raises(Unopened, match="moved from another block"):
        ring(ONE).open(uuid4(), name, sealed, "It")


def test_a_missing_key_is_named_with_what_to_do_and_no_key_is_told() -> None:
    name, sealed = ring(ONE).seal(OWNER, {"a": 1})
    with pytest.raises(Unopened) as refused:
        ring(TWO).open(OWNER, name, sealed, "The block document 'secret/db'")
    said = f"{refused.value.message} {refused.value.why} {refused.value.fix}"
    assert "'secret/db'" in said
    assert key_name(ONE) in said
    assert "the place of the keys" in said
    for key in (ONE, TWO):
        for text in (key.hex(), base64.b64encode(key).decode(), repr(key)):
            assert text not in said + repr(ring(ONE, TWO))


@pytest.mark.parametrize("write", [lambda k: base64.b64encode(k), lambda k: base64.urlsafe_b64encode(k)])
def test_keys_are_read_in_the_forms_that_people_have(write: Any) -> None:
    text = f"{write(ONE).decode()}, {TWO.hex()}\n# a remark\n{write(ONE).decode()}\n"
    assert parse_keys(text, "X") == [ONE, TWO]


@pytest.mark.parametrize("text", ["", " , ", "# only a remark", "c2hvcnQ=", "zz" * 32, "é", "a" * 44])
def test_what_is_no_key_is_refused_without_telling_it(text: str) -> None:
    with pytest.raises(SettingInvalid) as refused:
        parse_keys(text, "EPARCH_X")
    assert "EPARCH_X" in refused.value.message
    assert not text.strip(" ,#") or text not in str(refused.value) + refused.value.why + refused.value.fix


def test_the_key_file_is_made_when_it_is_needed_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "deeper" / "x.key")
    assert list(file.keys(False)) == []
    assert not file.path.exists()
    (key,) = file.keys(True)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert list(KeyFile(file.path).keys(False)) == [key]
    assert [one.name for one in file.path.parent.iterdir()] == ["x.key"]


def test_a_key_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    one, two = KeyFile(tmp_path / "x.key"), KeyFile(tmp_path / "x.key")
    two._make()
    one._make()
    assert list(one.keys(True)) == list(two.keys(True))


def test_a_server_sees_the_key_that_another_process_adds(tmp_path: Path) -> None:
    server, command = KeyFile(tmp_path / "x.key"), KeyFile(tmp_path / "x.key")
    (old,) = server.keys(True)
    new = command.add()
    assert [key_name(key) for key in server.keys(False)] == [new, key_name(old)]
    assert command.keep([]) == [key_name(old)]
    assert [key_name(key) for key in server.keys(False)] == [new]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.key"
    path.write_text("x")
    path.chmod(0)
    with pytest.raises(KeysUnusable, match=r"x\.key"):
        KeyFile(path).keys(False)


def test_a_folder_where_the_key_file_should_be_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeysUnusable, match=tmp_path.name):
        KeyFile(tmp_path).keys(True)


def test_a_key_file_with_something_else_in_it_is_named(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "x.key")
    file.path.write_text("geheim\n")
    with pytest.raises(KeysUnusable, match=r"x\.key") as refused:
        file.keys(False)
    assert "geheim" not in refused.value.message + refused.value.why + refused.value.fix


def test_the_keys_belong_to_the_database(tmp_path: Path) -> None:
    assert key_path("sqlite:////data/e.db", tmp_path) == Path("/data/e.db.key")
    assert key_path("postgresql://u:p@h/n", tmp_path) == tmp_path / "encryption.key"
    assert key_path("sqlite://", tmp_path) is None
    assert open_keyring(ONE.hex(), "sqlite://", tmp_path).names() == [key_name(ONE)]
    passing = open_keyring(None, "sqlite://", tmp_path)
    name, sealed = passing.seal(OWNER, {"a": 1})
    assert passing.open(OWNER, name, sealed, "It") == {"a": 1}
    assert list(tmp_path.iterdir()) == []
