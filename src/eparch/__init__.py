"""Eparch: flows in Python, deployed from one file, run by workers on your own infrastructure.

Public names are resolved when first used, so that importing the package costs nothing.
"""

from eparch.version import __version__ as __version__
