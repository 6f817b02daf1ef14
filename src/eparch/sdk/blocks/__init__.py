"""Blocks: typed configuration with secrets that flows and deployments share."""

from __future__ import annotations

from importlib import import_module

_SHIPPED = ("system", "filesystems", "notifications", "webhook")


def load_shipped() -> None:
    """Define the classes that everybody has, so that their blocks can be loaded by ``Block.load``."""
    for name in _SHIPPED:
        import_module(f"{__name__}.{name}")
