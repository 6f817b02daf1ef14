"""``eparch deploy --import``: flows as their code makes them, for names and parameters that are computed.

Without it the source is read and nothing of a project is imported (row D5).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eparch.deploy.scan import FoundFlow


def import_flow(entrypoint: str, root: Path) -> FoundFlow:
    """The flow at ``entrypoint``; its module is executed, with ``root`` as the working directory.

    Raises:
        SourceError: it cannot be imported, or is no flow.
    """
    from eparch.core.errors import SourceError
    from eparch.core.signatures import schema_of
    from eparch.deploy.scan import FoundFlow, split_entrypoint
    from eparch.deploy.source import Position
    from eparch.sdk import compat
    from eparch.sdk.loading import load_flow

    parsed = split_entrypoint(entrypoint)
    compat.install()
    here = Path.cwd()
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    place = parsed.path.removeprefix("./")
    try:
        os.chdir(root)
        flow = load_flow(f"{place}:{parsed.target}" if place else f"{parsed.module}.{parsed.target}")
    except SourceError:
        raise
    except (Exception, SystemExit) as error:
        why = f"{type(error).__name__}: {error}"
        fix = "install what it needs, or leave out --import"
        raise SourceError(f"'{entrypoint}' cannot be imported", why=why, fix=fix) from error
    finally:
        os.chdir(here)
    code = getattr(flow.fn, "__code__", None)
    file = place or (code.co_filename if code else parsed.module)
    return FoundFlow(
        name=flow.name,
        function_name=parsed.target.rpartition(".")[2],
        entrypoint=f"{place}:{parsed.target}" if place else entrypoint,
        description=flow.description,
        parameter_schema=schema_of(flow.fn),
        is_async=flow.isasync,
        position=Position(file=file, line=code.co_firstlineno if code else 0),
    )
