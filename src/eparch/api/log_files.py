"""The log of a run as a file."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from eparch.core.errors import TooLarge
from eparch.store import records

if TYPE_CHECKING:
    from eparch.store.database import Database

PAGE = 1000
MAX_BYTES = 200_000_000
"""What one file may have; the server holds it until it is sent."""

_COLUMNS = ("timestamp", "level", "flow_run_id", "task_run_id", "message")


async def csv_of(database: Database, flow_run_id: UUID) -> bytes:
    """All lines of the run, page by page, so that nobody else waits for a long one.

    Raises:
        TooLarge: the file would have more than ``MAX_BYTES``.
    """
    data, size = [_rows([_COLUMNS])], 0
    after: tuple[datetime, UUID] = (datetime.min.replace(tzinfo=UTC), UUID(int=0))
    while True:
        lines = await database.scan(records.run_log, flow_run_id, after, PAGE)
        if not lines:
            return b"".join(data)
        data.append(_rows(line[1:] for line in lines))
        size += len(data[-1])
        if size > MAX_BYTES:
            raise TooLarge(
                f"The log has more than {MAX_BYTES // 1_000_000} MB.",
                fix="Read it in pages: /logs/filter.",
            )
        after = lines[-1][1], lines[-1][0]


def _rows(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode("utf-8", "replace")
