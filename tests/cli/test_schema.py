"""``eparch schema`` (row D10)."""

import json
from pathlib import Path

from eparch.deploy.json_schema import project_schema


def test_d10_the_schema_is_printed_or_written(run, tmp_path):
    assert run("schema", code=0).json() == project_schema()
    file = tmp_path / "prefect.schema.json"
    done = run("schema", "--file", str(file), code=0)
    assert json.loads(file.read_text()) == project_schema()
    assert f"# yaml-language-server: $schema={file}" in done.err
    assert "cannot be written" in run("schema", "-f", str(Path(tmp_path, "no", "x.json")), code=2).err
