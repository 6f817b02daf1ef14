"""How many lines of log there are. Part of ``tables``."""

from __future__ import annotations

import sqlalchemy as sa

from eparch.store.columns import Id, Time, metadata

log_tally = sa.Table(
    "log_tally",
    metadata,
    sa.Column("flow_run_id", Id, primary_key=True),
    sa.Column("begun", Time, primary_key=True),
    sa.Column("level", sa.BigInteger, primary_key=True),
    sa.Column("lines", sa.BigInteger, nullable=False),
)
"""Lines of a flow run by ten seconds of their timestamps and by level, kept by what adds lines:
a page far down a long log begins near its place instead of counting every line before it.
"""
