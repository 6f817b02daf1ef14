"""Every operation of Prefect 3.9.1 is served here, or listed with the reason why it is not."""

from pathlib import Path

import msgspec

from eparch.core import calls

HERE = Path(__file__).parent
OPERATIONS: list[str] = msgspec.json.decode(HERE.joinpath("operations.json").read_bytes())
MISSING: dict[str, str] = msgspec.json.decode(HERE.joinpath("missing_operations.json").read_bytes())
SERVED = {f"{endpoint.method} {endpoint.path}" for endpoint in calls.ENDPOINTS}


def test_the_document_has_188_operations() -> None:
    assert len(set(OPERATIONS)) == 188


def test_every_operation_is_served_or_listed_as_missing() -> None:
    assert set(OPERATIONS) - SERVED == set(MISSING)


def test_every_missing_operation_has_a_reason() -> None:
    assert all(len(reason) > 10 for reason in MISSING.values())
