"""Results are stored as Arrow files, and nothing read from a store is ever executed."""

from __future__ import annotations

import json
from typing import Any, Literal

import pyarrow as pa
from prefect.serializers import Serializer

from quant_core.errors import InputError, NarrowcastError
from quant_core.storage.tables import from_ipc, to_ipc

__all__ = ["ArrowSerializer"]

_ARROW_MAGIC = b"ARROW1"


class ArrowSerializer(Serializer):
    """Writes tables as Arrow IPC files, and everything else Prefect stores (a failure, say) as plain JSON."""

    type: Literal["arrow"] = "arrow"

    def dumps(self, obj: Any) -> bytes:
        """Bytes of a table, or of a JSON document."""
        if isinstance(obj, pa.Table):
            return to_ipc(obj)
        if isinstance(obj, BaseException):
            return json.dumps({"error": type(obj).__name__, "message": str(obj)}).encode()
        return json.dumps(obj).encode()

    def loads(self, blob: bytes) -> Any:
        """Read what `dumps` wrote, a failure as a NarrowcastError; raises InputError for anything else."""
        if blob.startswith(_ARROW_MAGIC):
            return from_ipc(blob)
        try:
            stored = json.loads(blob)
        except (ValueError, RecursionError) as error:
            raise InputError(f"neither an Arrow file nor JSON: {error}") from error
        if isinstance(stored, dict) and stored.keys() == {"error", "message"}:
            return NarrowcastError(f"{stored['error']}: {stored['message']}")
        return stored
