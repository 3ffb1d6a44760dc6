"""Results are read as Arrow files, and nothing read from a store is ever executed."""

from __future__ import annotations

import json
from typing import Any, Literal

import pyarrow as pa
from prefect.serializers import Serializer

from quant_core.errors import InputError, NarrowcastError
from quant_core.storage.tables import from_ipc

__all__ = ["ArrowSerializer"]

_ARROW_MAGIC = b"ARROW1"


class ArrowSerializer(Serializer):
    """Reads the Arrow files that tasks have stored, and writes what Prefect stores else (a failure, say) as JSON."""

    type: Literal["arrow"] = "arrow"

    def dumps(self, obj: Any) -> bytes:
        """Return the bytes of a JSON document; none of a table, which its task has stored (see `StoredResult`)."""
        if isinstance(obj, pa.Table):
            return b""
        if isinstance(obj, BaseException):
            return json.dumps({"error": type(obj).__name__, "message": str(obj)}).encode()
        return json.dumps(obj).encode()

    def loads(self, blob: bytes) -> Any:
        """Read a table or what `dumps` wrote, a failure as a NarrowcastError; raises InputError for anything else."""
        if blob.startswith(_ARROW_MAGIC):
            return from_ipc(blob)
        try:
            stored = json.loads(blob)
        except (ValueError, RecursionError) as error:
            raise InputError(f"neither an Arrow file nor JSON: {error}") from error
        if isinstance(stored, dict) and stored.keys() == {"error", "message"}:
            return NarrowcastError(f"{stored['error']}: {stored['message']}")
        return stored
