"""The log of a run as a file."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from eparch.store import records

if TYPE_CHECKING:
    from eparch.store.database import Database

PAGE = 1000
"""Lines that are held at a time, however long the log is."""

_COLUMNS = ("timestamp", "level", "flow_run_id", "task_run_id", "message")


async def csv_of(database: Database, flow_run_id: UUID) -> AsyncGenerator[bytes, None]:
    """All lines of the run, page by page, so that nobody else waits for a long one."""
    after: tuple[datetime, UUID] = (datetime.min.replace(tzinfo=UTC), UUID(int=0))
    heading: tuple[Any, ...] = (_COLUMNS,)
    while lines := await database.scan(records.run_log, flow_run_id, after, PAGE):
        yield _rows([*heading, *(line[1:] for line in lines)])
        heading = ()
        after = lines[-1][1], lines[-1][0]
    if heading:
        yield _rows(heading)


def _rows(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "replace")
