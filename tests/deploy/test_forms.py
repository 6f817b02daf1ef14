"""Every accepted and every refused form of a file (issue 5.1; features 1.5; real-files 2 and 3)."""

from __future__ import annotations

import pytest

from eparch.core.errors import SourceErrors
from eparch.deploy.project import parse_project

from .forms import (
    ACCEPTED_AT_THE_TOP,
    ACCEPTED_IN_DEPLOYMENT,
    HEAD,
    REFUSED_AT_THE_TOP,
    REFUSED_IN_DEPLOYMENT,
    REFUSED_STEPS,
    Accepted,
    Refused,
)

ACCEPTED = [
    *ACCEPTED_AT_THE_TOP,
    *(Accepted(c, HEAD + body, note) for c, body, note in ACCEPTED_IN_DEPLOYMENT),
]
REFUSED = [
    *(Refused(*one) for one in REFUSED_AT_THE_TOP),
    *(Refused(HEAD + one[0], *one[1:]) for one in REFUSED_IN_DEPLOYMENT),
    *(Refused("pull:\n" + one[0], *one[1:]) for one in REFUSED_STEPS),
]


@pytest.mark.parametrize(("count", "text", "note"), ACCEPTED)
def test_accepted(count: str, text: str, note: str) -> None:
    project = parse_project(text)
    assert [note in found.message for found in project.notes] == [True] * bool(note)
    assert count


@pytest.mark.parametrize(("text", "position", "message", "help_", "plain"), REFUSED)
def test_d10_refused(text: str, position: str, message: str, help_: str, plain: bool) -> None:
    with pytest.raises(SourceErrors) as caught:
        parse_project(text)
    (error,) = caught.value.errors
    assert error.position == ":".join(filter(None, ["prefect.yaml", position]))
    assert message in error.message
    assert help_ in f"{error.message} {error.why} {error.fix}"
