"""The folder in which workers leave word for each other: what killed holders left behind is swept (W17)."""

from __future__ import annotations

import os
import socket

import pytest

from eparch.workers.holder import UNBORN, _listen_at
from eparch.workers.places import own_folder, sweep


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return own_folder()


def left_over(place):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen(1)


def test_only_sockets_at_which_nobody_listens_are_swept(folder):
    left_over(folder / "100-5")
    (folder / "container-abc").write_text("")
    listener = _listen_at(str(folder / "101-6"))
    busy = _listen_at(str(folder / "102-7"))
    callers = []
    with listener, busy:
        # Its queue is full: who calls would have to wait, and still somebody listens.
        for _ in range(20):
            callers.append(socket.socket(socket.AF_UNIX))
            callers[-1].setblocking(False)
            if callers[-1].connect_ex(str(folder / "102-7")):
                break
        assert sweep() == ["100-5"]
        assert {entry.name for entry in folder.iterdir()} == {"101-6", "102-7", "container-abc"}
        for caller in callers:
            caller.close()
        assert sweep() == []
    assert sorted(sweep()) == ["101-6", "102-7"]
    assert sweep() == []


def test_one_that_is_just_being_made_is_left_until_it_is_abandoned(folder):
    unborn = folder / ("100-5" + UNBORN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(unborn))
    assert sweep() == []
    os.utime(unborn, (0, 0))
    assert sweep() == [unborn.name]


def test_a_folder_that_is_not_there_or_not_ours_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    assert sweep() == []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = own_folder()
    left_over(folder / "100-5")
    folder.chmod(0o777)
    assert sweep() == []
    assert (folder / "100-5").exists()
