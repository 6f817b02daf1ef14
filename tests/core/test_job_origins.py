"""Where each value of a job came from (row P7)."""

from __future__ import annotations

from typing import Any

from eparch.core.job_origins import Origin, explain_job
from eparch.core.job_templates import Layer

TEMPLATE: dict[str, Any] = {
    "variables": {
        "properties": {
            "image": {"default": "base"},
            "tag": {},
            "env": {"default": {"POOL": "1", "BOTH": "pool"}},
            "resources": {"x-merge": "deep", "default": {"limits": {"cpu": 1, "memory": "1Gi"}}},
            "command": {},
        }
    },
    "job_configuration": {
        "image": "{{ image }}:{{ tag }}",
        "env": "{{ env }}",
        "kind": "Job",
        "args": ["{{ command }}", "--", "{{ tag }}"],
        "resources": "{{ resources }}",
        "cpu": "{{ resources.limits.cpu }}",
        "name": "{{ ctx.flow.name }}-{{ tag }}",
        "empty": {},
    },
}


def explain(template: dict[str, Any] = TEMPLATE, **layers: dict[str, Any]) -> tuple[Any, dict[str, Origin]]:
    job, origins = explain_job(template, [Layer(name=name, values=value) for name, value in layers.items()])
    return job, {".".join(map(str, path)): origin for path, origin in origins.items()}


def test_p7_every_leaf_names_its_layer_and_its_variable() -> None:
    job, origins = explain(
        deployment={"tag": "v1", "env": {"BOTH": "d"}, "resources.limits.cpu": 2}, run={"env.RUN": "r"}
    )
    assert job["args"] == ["--", "v1"]
    assert {key: (one.layers, one.variables) for key, one in origins.items()} == {
        "image": (("pool", "deployment"), ("image", "tag")),
        "env.POOL": (("pool",), ("env",)),
        "env.BOTH": (("deployment",), ("env",)),
        "env.RUN": (("run",), ("env",)),
        "kind": (("template",), ()),
        "args.0": (("template",), ()),
        "args.1": (("deployment",), ("tag",)),
        "resources.limits.cpu": (("deployment",), ("resources",)),
        "resources.limits.memory": (("pool",), ("resources",)),
        "cpu": (("deployment",), ("resources.limits.cpu",)),
        "name": (("context", "deployment"), ("tag",)),
        "empty": (("template",), ()),
    }


def test_p7_a_literal_env_of_the_template_takes_the_variable() -> None:
    template = {"variables": {"properties": {"env": {}}}, "job_configuration": {"env": {"A": "1", "B": "2"}}}
    _, origins = explain(template, run={"env": {"B": "3", "C": "4"}})
    assert {key: one.layers for key, one in origins.items()} == {
        "env.A": ("template",),
        "env.B": ("run",),
        "env.C": ("run",),
    }
    bare = {"variables": {"properties": {"env": {}}}, "job_configuration": {"env": {}}}
    assert explain(bare, run={"env": {"C": "4"}})[1].keys() == {"env.C"}
    assert explain(bare)[1].keys() == {"env"}
