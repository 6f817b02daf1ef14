from importlib.metadata import EntryPoint

import pytest

from eparch.core.errors import InfrastructureError, NotFound
from eparch.testing.infrastructure import FakeInfrastructure
from eparch.workers import infrastructure
from eparch.workers.infrastructure import default_template, describe_types, find_type, types
from eparch.workers.process import ProcessInfrastructure


@pytest.fixture
def point(monkeypatch):
    """Installs a type of another package."""

    def install(name: str, value: str) -> None:
        entry = EntryPoint(name, value, infrastructure.GROUP)
        monkeypatch.setattr(infrastructure, "_points", lambda: (entry,))

    return install


def test_the_process_type_is_shipped():
    assert find_type("process") is ProcessInfrastructure
    assert "process" in types()


def test_w26_a_type_of_another_package_is_found_by_its_entry_point(point):
    point("fake", "eparch.testing.infrastructure:FakeInfrastructure")
    assert find_type("fake") is FakeInfrastructure
    (told,) = describe_types()
    assert (told["type"], told["package"]) == ("fake", "eparch")
    assert told["default_base_job_configuration"] == FakeInfrastructure.base_job_template


def test_a_shipped_type_cannot_be_replaced(point):
    point("process", "eparch.testing.infrastructure:FakeInfrastructure")
    assert find_type("process") is ProcessInfrastructure


@pytest.mark.parametrize(
    "value", ["no_such_module:Thing", "eparch.core.model:Thing", "eparch.core.model:Value"]
)
def test_a_broken_package_is_named(point, value):
    point("broken", value)
    with pytest.raises(InfrastructureError) as caught:
        find_type("broken")
    assert value in caught.value.why
    assert describe_types() == []


def test_an_unknown_type_gets_a_hint():
    with pytest.raises(NotFound) as caught:
        find_type("proces")
    assert caught.value.fix == "Did you mean 'process'?"


def test_p12_a_pool_is_made_without_the_worker_of_its_type():
    assert default_template("cloud-run-v2")["variables"]["properties"]["region"]["default"] == "us-central1"


def test_p12_a_default_template_is_a_copy():
    default_template("process")["variables"]["properties"].clear()
    assert default_template("process")["variables"]["properties"]
