"""The report: one self-contained HTML page about a run, made from its manifest and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

__all__ = ["report_page"]


def report_page(manifest: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> str:
    """The page."""
    return "<!doctype html>"
