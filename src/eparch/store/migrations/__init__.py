"""The schema's history: one set of revisions for both dialects, as SQL scripts.

Alembic writes the script of an upgrade ("offline" mode) and the database's own driver runs it in one
transaction, so an upgrade happens whole or not at all and needs no second driver.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from eparch.core.errors import DatabaseUnusable

FOLDER = Path(__file__).parent


def upgrade_script(dialect: str, current: str | None, target: str = "head") -> str:
    """The SQL that brings a database of ``dialect`` from revision ``current`` (None: empty) to ``target``.

    Raises:
        DatabaseUnusable: ``current`` is not known here, so the database is of a newer version.
    """
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(FOLDER))
    if current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
        raise DatabaseUnusable(
            "The database is of a newer version of Eparch.",
            why=f"Its schema is at revision {current}, which this version does not know.",
            fix="Install the newer version, or restore a copy from before the upgrade. Nothing was changed.",
        )
    written = io.StringIO()

    def run(rev: Any, context: Any) -> Any:
        return scripts._upgrade_revs(target, rev)

    with EnvironmentContext(Config(), scripts, fn=run, as_sql=True, starting_rev=current) as environment:
        environment.configure(dialect_name=dialect, output_buffer=written, transactional_ddl=False)
        environment.run_migrations()
    return written.getvalue()
