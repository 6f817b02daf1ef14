"""Where each value of a job came from: the template itself, the pool's defaults, the deployment, the run.

Owns the answer to "why is this value so?" for every leaf of a job (row P7). Which layer wins for a variable
is decided in ``job_templates``; what a worker adds to a job is its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from eparch.core.job_templates import VARIABLES, Layer, Resolved, parts_of, render_job
from eparch.core.model import UNSET, Json, Value
from eparch.core.templates import Kind, Path, lookup_in, placeholders, render

TEMPLATE = "template"
"""The layer of what stands in ``job_configuration`` as it is."""

CONTEXT = "context"
"""The layer of ``{{ ctx.* }}``: what the flow, the run and the deployment are (row W25)."""


class Origin(Value, frozen=True, kw_only=True):
    """Where a value came from; a text that was put together of several came from several."""

    layers: tuple[str, ...]
    """``template``, ``pool``, ``deployment``, ``run`` ...; the first first."""
    variables: tuple[str, ...] = ()
    """The job variables that it was made of: what to set to change it."""


def explain_job(
    base_job_template: dict[str, Json], layers: Iterable[Layer]
) -> tuple[dict[str, Json], dict[Path, Origin]]:
    """The job of ``render_job``, and for the path of each of its leaves where it came from.

    Raises:
        Invalid: a layer has a variable that the pool does not offer, or this is no template at all.
    """
    job, resolved = render_job(base_job_template, layers)
    _, configuration = parts_of(base_job_template)
    origins = dict(_origins(configuration, (), resolved))
    variables = resolved.values.get("env")
    if isinstance(configuration.get("env"), dict) and isinstance(variables, dict):
        if variables:
            origins.pop(("env",), None)
        for key, value in variables.items():
            _forget(origins, ("env", key))
            origins.update(_spread(value, ("env", key), f"env.{key}", resolved))
    return job, origins


def leaves(value: Json, path: Path = ()) -> Iterator[tuple[Path, Json]]:
    """Every value within ``value`` that holds no other, with its path; an empty mapping or list is one."""
    inner: Iterable[tuple[str | int, Json]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    if not inner or not value:
        yield path, value
        return
    for key, item in inner:
        yield from leaves(item, (*path, key))


def _origins(value: Json, path: Path, resolved: Resolved) -> Iterator[tuple[Path, Origin]]:
    """Walks a part of ``job_configuration``; ``path`` is where it stands in the job."""
    if isinstance(value, str):
        yield from _of_text(value, path, resolved)
        return
    inner: Iterable[tuple[str | int, Json]] = ()
    if isinstance(value, dict):
        inner = [(key, item) for key, item in value.items() if not _is_gone(item, resolved)]
    elif isinstance(value, list):
        inner = list(enumerate(item for item in value if not _is_gone(item, resolved)))
    if not inner:
        yield path, Origin(layers=(TEMPLATE,))
    for key, item in inner:
        yield from _origins(item, (*path, key), resolved)


def _is_gone(value: Json, resolved: Resolved) -> bool:
    return isinstance(value, str) and render(value, lookup_in(resolved.values), kinds=VARIABLES) is UNSET


def _of_text(text: str, path: Path, resolved: Resolved) -> Iterator[tuple[Path, Origin]]:
    found = [one for one in placeholders(text) if one.kind in (*VARIABLES, Kind.CTX)]
    if not found:
        yield path, Origin(layers=(TEMPLATE,))
        return
    if len(found) == 1 and found[0].kind in VARIABLES:
        value = render(text, lookup_in(resolved.values), kinds=VARIABLES)
        if text.strip() == found[0].text or not isinstance(value, str):
            yield from _spread(value, path, found[0].name, resolved)
            return
    layers = dict.fromkeys(
        CONTEXT if one.kind is Kind.CTX else resolved.winner(one.name) or TEMPLATE for one in found
    )
    variables = dict.fromkeys(one.name for one in found if one.kind in VARIABLES)
    yield path, Origin(layers=tuple(layers), variables=tuple(variables))


def _spread(value: Json, path: Path, name: str, resolved: Resolved) -> Iterator[tuple[Path, Origin]]:
    """The leaves of what the variable ``name`` is; each may have come from another layer."""
    for inner, _ in leaves(value):
        key = ".".join(map(str, (name, *inner)))
        yield (*path, *inner), Origin(layers=(resolved.winner(key) or TEMPLATE,), variables=(name,))


def _forget(origins: dict[Path, Origin], path: Path) -> None:
    for known in [known for known in origins if known[: len(path)] == path]:
        del origins[known]
