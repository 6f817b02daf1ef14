"""What a command has at hand: settings, a client, a way to print and to ask. Made once per process.

Nothing is read or connected before it is used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from eparch.cli.commands import GIVEN
from eparch.cli.output import Output
from eparch.core.errors import EparchError, Usage

if TYPE_CHECKING:
    from eparch.client.http import Client
    from eparch.core.calls import Call, Endpoint
    from eparch.settings import Resolved, Settings

T = TypeVar("T")

PAGE = 200
"""Rows that a server gives at once (wire section 1, "Limits")."""


class Session:
    """One run of the command line."""

    def __init__(self, meta: dict[str, Any]) -> None:
        self._meta = meta
        self._client: Client | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The shared options that were on the line."""
        found: dict[str, Any] = self._meta.get(GIVEN, {})
        return found

    @cached_property
    def resolved(self) -> Resolved:
        """Settings with their sources."""
        from eparch import settings

        overrides = {"api_url": self.given.get("api_url"), "cli_prompt": self.given.get("prompt")}
        overrides |= {"color": self.given.get("color"), "debug": self.given.get("debug")}
        return settings.resolve(profile=self.given.get("profile"), overrides=overrides)

    @property
    def settings(self) -> Settings:
        """The settings of this run."""
        return self.resolved.settings

    @cached_property
    def output(self) -> Output:
        """Where data goes."""
        return Output(str(self.given.get("output") or "table").lower(), colored=self._colored())

    def _colored(self) -> bool:
        """NO_COLOR and FORCE_COLOR (no-color.org, force-color.org) lose to ``--color`` and the setting."""
        try:
            wanted = self.settings.color
        except EparchError:  # what to say about the settings can be printed without them
            wanted = self.given.get("color") or "auto"
        if wanted != "auto":
            return wanted == "always"
        if os.environ.get("NO_COLOR"):
            return False
        return bool(os.environ.get("FORCE_COLOR")) or (
            sys.stdout.isatty() and os.environ.get("TERM") not in (None, "dumb")
        )

    # The server

    @property
    def client(self) -> Client:
        """A client of the server; a person does not wait for one that is not there."""
        if self._client is None:
            from eparch.client.http import connect
            from eparch.client.retries import Retries

            settings = self.located()
            retries = Retries(attempts=settings.max_retries, total=30, connect=False)
            self._client = connect(settings, retries=retries)
        return self._client

    def located(self) -> Settings:
        """The settings with the URL of the server that commands of this session use."""
        import msgspec

        from eparch.client.local import url_of

        return msgspec.structs.replace(self.settings, api_url=url_of(self.settings) or self.default_url())

    def default_url(self) -> str:
        """Where a server started here with these settings would be."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.settings.server_host)  # noqa: S104
        return f"http://{host or self.settings.server_host}:{self.settings.server_port or 4200}/api"

    def use(self, client: Client) -> None:
        """Talk to the server through ``client``."""
        self._client = client

    def send(self, call: Call[T]) -> T:
        """The answer to ``call``."""
        return self.client.send(call)

    def pages(
        self, endpoint: Endpoint[list[T]], body: dict[str, Any], limit: int | None = None, **path: Any
    ) -> Iterator[T]:
        """All that a ``/filter`` endpoint finds, page by page, at most ``limit``."""
        offset = 0
        while limit is None or offset < limit:
            wanted = PAGE if limit is None else min(PAGE, limit - offset)
            page = self.send(endpoint(body={**body, "limit": wanted, "offset": offset}, **path))
            yield from page
            offset += len(page)
            if len(page) < wanted:
                return

    def close(self) -> None:
        """Close the client; the next question makes a new one."""
        if self._client is not None:
            self._client.close()
            self._client = None

    # People

    @property
    def interactive(self) -> bool:
        """Whether a person can be asked."""
        wanted = self.settings.cli_prompt
        return (sys.stdin.isatty() and sys.stderr.isatty()) if wanted is None else wanted

    def note(self, text: str) -> None:
        """Say something that is not data, on stderr."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def confirm(self, question: str, *, yes: bool) -> None:
        """Go on only when the answer is yes.

        Raises:
            Usage: nobody can be asked and ``--yes`` is not there.
        """
        if yes:
            return
        if not self.interactive:
            raise Usage(f"{question} Nobody is here to say yes.", fix="Add --yes.")
        import click

        click.confirm(question, abort=True, err=True)

    def refuse(self, message: str, *, why: str = "", fix: str = "") -> NoReturn:
        """End as a command that was not used as it can be."""
        raise Usage(message, why=why, fix=fix)
