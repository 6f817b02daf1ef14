"""``get_client``: the server's operations by name, with the names and arguments of Prefect's client.

Each method is an endpoint of ``core.calls``: nothing is written by hand for one, but for the few whose name
or arguments differ. The filters and sorts that code gives them are in ``filter_values``.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from typing import Any, Literal, overload

import msgspec

from eparch.core import calls
from eparch.core.endpoint import Call, Endpoint
from eparch.core.errors import NotFound, Usage, did_you_mean
from eparch.core.filters import FilterBody
from eparch.core.states import State, StateCreate
from eparch.sdk.session import current

ALIASES: Mapping[str, str] = {
    "api_healthcheck": "read_health",
    "api_version": "read_version",
    "create_flow_run_from_deployment": "create_deployment_flow_run",
    "create_global_concurrency_limit": "create_concurrency_limit",
    "delete_concurrency_limit_by_tag": "delete_tag_limit",
    "delete_global_concurrency_limit_by_name": "delete_concurrency_limit",
    "hello": "read_hello",
    "read_block_documents_by_type": "read_documents_of_type",
    "read_concurrency_limit_by_tag": "read_tag_limit",
    "read_global_concurrency_limit_by_name": "read_concurrency_limit",
    "read_workers_for_work_pool": "read_workers",
    "reset_concurrency_limit_by_tag": "reset_tag_limit",
    "set_flow_run_name": "update_flow_run",
    "set_task_run_name": "update_task_run",
    "update_global_concurrency_limit": "update_concurrency_limit",
}
"""Prefect's names for what ours are called otherwise."""


EMPTY_WHEN_MISSING = frozenset({"read_variable_by_name"})


def call_of(method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call[Any]:
    """The call that ``method`` of Prefect's client makes with these arguments.

    Raises:
        AttributeError: there is no such operation.
        TypeError: the arguments do not fit it.
        Usage: a value does not fit it.
    """
    endpoint = endpoint_of(method)
    given = list(args)
    path, left = _path(endpoint, method, given, dict(kwargs))
    if endpoint.body is None:
        query = {name: given.pop(0) for name in endpoint.query if given}
        query |= {name: left.pop(name) for name in endpoint.query if name in left}
        if given or left:
            raise TypeError(f"{method}() does not take {', '.join([*map(repr, given), *left])}.")
        return endpoint(**path, **query)
    if isinstance(endpoint.body, FilterBody):
        return endpoint(**path, body=_filter(method, given, left))
    return endpoint(**path, body=_body(endpoint, method, given, left))


def endpoint_of(method: str) -> Endpoint[Any]:
    """The operation behind a method.

    Raises:
        AttributeError: there is none.
    """
    found = getattr(calls, ALIASES.get(method, method), None)
    if isinstance(found, Endpoint):
        return found
    known = [*ALIASES, *(name for name, value in vars(calls).items() if isinstance(value, Endpoint))]
    raise AttributeError(f"The client has no method {method!r}. {did_you_mean(method, known)}".rstrip())


def _path(
    endpoint: Endpoint[Any], method: str, given: list[Any], named: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What stands in the path, and what is left: by its order, or by name (``flow_run_id``)."""
    names = [name for _, name, _, _ in string.Formatter().parse(endpoint.path) if name]
    if names == ["flow_name", "deployment_name"]:
        full = str(given.pop(0) if given else named.pop("name", ""))
        flow, slash, own = full.partition("/")
        if not slash:
            raise Usage(f"{full!r} is not the name of a deployment.", fix="Write it as `flow/deployment`.")
        return {"flow_name": flow, "deployment_name": own}, named
    path: dict[str, Any] = {}
    for name in names:
        if given:
            path[name] = given.pop(0)
            continue
        key = name if name in named else _longer(name, named)
        if key is None:
            raise TypeError(f"{method}() needs {name!r}.")
        path[name] = named.pop(key)
    return path, named


def _longer(name: str, named: Mapping[str, Any]) -> str | None:
    """``flow_run_id`` for ``id``, ``work_pool_name`` for ``name``."""
    return next((key for key in named if key.endswith(f"_{name}")), None)


def _filter(method: str, given: list[Any], named: dict[str, Any]) -> dict[str, Any]:
    """``flow_run_filter=`` is ``flow_runs``; sort, limit and offset are as they are."""
    body: dict[str, Any] = {}
    if given:
        first = method.removeprefix("read_").removeprefix("count_")
        body[first] = given.pop(0)
    if given:
        raise TypeError(f"{method}() takes its filters by name.")
    for key, value in named.items():
        kind = key.removesuffix("_filter")
        if value is not None:
            body[key if kind == key else f"{kind}s"] = value
    return {key: _plain(value) for key, value in body.items()}


def _body(endpoint: Endpoint[Any], method: str, given: list[Any], named: dict[str, Any]) -> Any:
    """The body: as it is given, or made of its fields."""
    if method in ("set_flow_run_name", "set_task_run_name") and given:
        named = {"name": given.pop(0), **named}
    fields = getattr(endpoint.body, "__struct_fields__", ())
    if given and isinstance(given[0], State | StateCreate) and "state" in fields:
        named = {"state": given.pop(0), **named}
    if given or (len(named) == 1 and not set(named) & set(fields)):
        body = given.pop(0) if given else next(iter(named.values()))
        if isinstance(endpoint.body, type) and isinstance(body, endpoint.body):
            return body
        named = dict(body) if isinstance(body, Mapping) else msgspec.to_builtins(body)
    if given:
        raise TypeError(f"{method}() was given too much: {given[0]!r}.")
    try:
        return msgspec.convert(_plain({k: v for k, v in named.items() if v is not None}), endpoint.body)
    except msgspec.ValidationError as error:
        raise Usage(f"{method}() cannot be called so.", why=str(error)) from error


def _plain(value: Any) -> Any:
    """``value`` as JSON has it; of a state what can be proposed."""
    if isinstance(value, State):
        value = StateCreate(
            type=value.type, name=value.name, message=value.message, state_details=value.state_details
        )
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return msgspec.to_builtins(value, enc_hook=str)


def _send(method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return current().client.send(call_of(method, args, kwargs))
    except NotFound:
        if method in EMPTY_WHEN_MISSING:
            return None
        raise


class SyncClient:
    """The operations as methods: ``client.read_flow_run(id)``."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        endpoint_of(name)
        return lambda *args, **kwargs: _send(name, args, kwargs)

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(self, *_: object) -> None:
        """The connection is the process's: it stays open."""


class AsyncClient:
    """The operations as methods to await: ``await client.read_flow_run(id)``."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        endpoint_of(name)

        async def send(*args: Any, **kwargs: Any) -> Any:
            import asyncio

            return await asyncio.to_thread(_send, name, args, kwargs)

        return send

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        """The connection is the process's: it stays open."""


@overload
def get_client(*, sync_client: Literal[True]) -> SyncClient: ...
@overload
def get_client(*, sync_client: Literal[False] = False) -> AsyncClient: ...
def get_client(*, sync_client: bool = False) -> SyncClient | AsyncClient:
    """A client of the server that this process uses; its methods are to be awaited unless ``sync_client``."""
    return SyncClient() if sync_client else AsyncClient()
