"""States: what they hold."""

from __future__ import annotations

import pytest

from eparch.core.errors import FailedRun, MissingResult
from eparch.core.states import Completed, Failed


def test_a_dict_in_a_state_is_no_outcome() -> None:
    """What comes over the wire is data; that it has a ``get`` makes it no result."""
    named = {"type": "reference", "storage_key": "k"}
    with pytest.raises(MissingResult):
        Completed(data=named).result()
    with pytest.raises(FailedRun):
        Failed(message="no", data={True: "the value"}).result()
    assert isinstance(Failed(data=named).result(raise_on_failure=False), FailedRun)
