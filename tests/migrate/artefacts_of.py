"""What Prefect 2.20.25 wrote and answered, with every infrastructure and storage block that it ships."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eparch.migrate.inventory import Block, read_document

FOLDER = Path(__file__).parent / "artefacts"
FILES = sorted(FOLDER.glob("*-deployment.yaml"))


def read_json(name: str) -> Any:
    """One of the answers of Prefect 2's server."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def saved_blocks() -> dict[str, Block]:
    """The blocks of the server by their names."""
    return {document["name"]: read_document(document) for document in read_json("block_documents")}
