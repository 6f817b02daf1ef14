"""One frozen ``Settings``, read at entry points only and handed down.

``table`` says what can be set, ``loading`` where values come from, ``profiles`` owns the profile file.
"""

from eparch.settings.loading import Resolved, load, parse, resolve
from eparch.settings.table import BY_NAME, BY_VARIABLE, TABLE, Setting, Settings

__all__ = [
    "BY_NAME",
    "BY_VARIABLE",
    "TABLE",
    "Resolved",
    "Setting",
    "Settings",
    "load",
    "parse",
    "resolve",
]
