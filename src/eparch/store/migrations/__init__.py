"""The schema's history: one set of revisions for both dialects, as SQL scripts.

Alembic writes the script of an upgrade ("offline" mode) and the database's own driver runs it in one
transaction, so an upgrade happens whole or not at all and needs no second driver.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any, NoReturn

from eparch.core.errors import DatabaseUnusable

FOLDER = Path(__file__).parent


def revisions() -> frozenset[str]:
    """The revisions that this version knows; Alembic, which takes long to import, is not asked."""
    return frozenset(path.name[:4] for path in (FOLDER / "versions").glob("[0-9]*.py"))


def refuse(revision: str) -> NoReturn:
    """Say that nothing is done with a database that is at ``revision``.

    Raises:
        DatabaseUnusable: always.
    """
    if not re.fullmatch(r"\d{4}", revision):
        raise DatabaseUnusable(
            "The database is not one of Eparch.",
            why=f"Its schema is at revision {revision}; a database of Prefect looks like this.",
            fix="Name another one in EPARCH_DATABASE_URL. Nothing was changed.",
        )
    raise DatabaseUnusable(
        "The database is of a newer version of Eparch.",
        why=f"Its schema is at revision {revision}, which this version does not know.",
        fix="Install the newer version, or restore a copy from before the upgrade. Nothing was changed.",
    )


def upgrade_script(dialect: str, current: str | None, target: str = "head") -> str:
    """The SQL that brings a database of ``dialect`` from revision ``current`` (None: empty) to ``target``.

    Raises:
        DatabaseUnusable: ``current`` is not known here, so the database is of a newer version or foreign.
    """
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(FOLDER))
    if current is not None and current not in revisions():
        refuse(current)
    written = io.StringIO()

    def run(rev: Any, context: Any) -> Any:
        return scripts._upgrade_revs(target, rev)

    with EnvironmentContext(Config(), scripts, fn=run, as_sql=True, starting_rev=current) as environment:
        environment.configure(dialect_name=dialect, output_buffer=written, transactional_ddl=False)
        environment.run_migrations()
    return written.getvalue()
