"""Where positions begin. Part of ``tables``."""

from __future__ import annotations

import sqlalchemy as sa

from eparch.store.columns import metadata

position_shift = sa.Table(
    "position_shift",
    metadata,
    sa.Column("one", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("shift", sa.BigInteger, nullable=False),
)
"""One row: what is added to a transaction's number on PostgreSQL to make a position.

A cluster into which a dump is restored counts its transactions from the beginning; see ``positions.mend``.
"""
