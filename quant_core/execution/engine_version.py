"""The installed version of narrowcast."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["engine_version"]


def engine_version() -> str:
    """Return the installed version of narrowcast."""
    try:
        return version("narrowcast")
    except PackageNotFoundError:  # imported from a source tree that is not installed
        return "0"
