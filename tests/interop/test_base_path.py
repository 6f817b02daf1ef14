"""Prefect's own client, unmodified, against a server below another path and with a smaller page."""

from __future__ import annotations

from pathlib import Path

from bench.targets import Session
from tests.api.calling import served

from eparch import settings
from eparch.api.app import create_app

CODE = """
from prefect import flow
from prefect.client.orchestration import get_client


@flow
def below():
    return 1


for _ in range(4):
    assert below() == 1
with get_client(sync_client=True) as client:
    runs = client.read_flow_runs()
    assert len(runs) == 3, runs
    rest = client.read_flow_runs(offset=3)
    assert len(rest) == 1 and len({run.id for run in (*runs, *rest)}) == 4
    assert len(client.read_flow_runs(limit=200)) == 4
print("all told")
"""


def test_its_client_below_another_path_and_with_pages_of_three(stock: Session, tmp_path: Path) -> None:
    told = {
        "EPARCH_HOME": str(tmp_path / "home"),
        "EPARCH_DATABASE_URL": "sqlite://",
        "EPARCH_SERVICES_ENABLED": "false",
        "PREFECT_SERVER_API_BASE_PATH": "/flows/api",
        "PREFECT_SERVER_API_DEFAULT_LIMIT": "3",
    }
    app = create_app(settings.load(told, tmp_path))
    with served(app) as place:
        url = f"http://{place.partition('/')[0]}/flows/api"
        home = tmp_path / "stock"
        home.mkdir()
        session = Session(stock.target, home, url)
        assert "all told" in session.run_python(CODE)
