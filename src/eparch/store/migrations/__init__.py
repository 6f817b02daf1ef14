"""The schema's history: one set of revisions for both dialects, as SQL scripts.

Alembic writes the script of an upgrade ("offline" mode) and the database's own driver runs it in one
transaction, so an upgrade happens whole or not at all and needs no second driver.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any, NoReturn

from eparch.core.errors import DatabaseUnusable, NotFound

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


def find_revision(current: str | None, target: str) -> str | None:
    """The revision that ``target`` means for a database at ``current``; None is an empty database.

    Raises:
        NotFound: there is no such revision.
        DatabaseUnusable: ``current`` is not known here.
    """
    chain = [None, *sorted(revisions())]
    if current not in chain:
        refuse(str(current))
    named: dict[str, str | None] = {"head": chain[-1], "base": None}
    named |= {name: name for name in chain if name is not None}
    if re.fullmatch(r"[+-]\d{1,4}", target):
        place = chain.index(current) + int(target)
        if 0 <= place < len(chain):
            return chain[place]
    elif target in named:
        return named[target]
    raise NotFound(
        f"There is no revision {target!r} of the schema.",
        fix=f"Name one of {', '.join(name for name in named)}, or a number of steps such as -1.",
    )


def upgrade_script(dialect: str, current: str | None, target: str = "head") -> str:
    """The SQL that brings a database of ``dialect`` from revision ``current`` (None: empty) up to ``target``.

    Raises:
        DatabaseUnusable: ``current`` is not known here, so the database is of a newer version or foreign.
    """
    return _script(dialect, current, target, "_upgrade_revs")


def downgrade_script(dialect: str, current: str, target: str) -> str:
    """The SQL that takes a database of ``dialect`` from ``current`` to ``target``; ``base`` leaves nothing.

    Raises:
        DatabaseUnusable: ``current`` is not known here.
    """
    script = _script(dialect, current, target, "_downgrade_revs")
    return f"{script}\nDROP TABLE alembic_version;\n" if target == "base" else script


def _script(dialect: str, current: str | None, target: str, way: str) -> str:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(FOLDER))
    if current is not None and current not in revisions():
        refuse(current)
    written = io.StringIO()

    def run(rev: Any, context: Any) -> Any:
        return getattr(scripts, way)(target, rev)

    with EnvironmentContext(Config(), scripts, fn=run, as_sql=True, starting_rev=current) as environment:
        environment.configure(dialect_name=dialect, output_buffer=written, transactional_ddl=False)
        environment.run_migrations()
    return written.getvalue()
