"""What Prefect is shown of the store."""

from __future__ import annotations

import json

from prefect.filesystems import WritableFileSystem

from quant_core.storage.store import Store
from tasks.cache.result_store import ResultStore

__all__ = ["StoredResult"]

_PAYLOAD = "/table"


class StoredResult(WritableFileSystem):
    """One step's stored result, found whole, or none: to Prefect a cache hit or a miss.

    Prefect asks a storage for a record of the result, which says by what it is read, and then for the result. The
    record is made up here, so that nothing in a store can have Prefect unpickle anything. Writing does nothing: a
    failed write Prefect would swallow and call the step done, so that a step stores its result itself (see
    `stage_task`).
    """

    results: str | None = None
    """URL of the results, where one that was not known yet is looked for; None when it is to be computed anyway."""
    payload: bytes | None = None
    """The Arrow file, where it is known already."""

    def read_path(self, path: str, _sync: bool = True) -> bytes:  # type: ignore[override]
        """The record of a result, or the result; raises ValueError when there is none."""
        key = path.removesuffix(_PAYLOAD)
        if self.payload is None and self.results is not None:
            # Another machine may have been faster, or an earlier attempt that ended in between.
            self.payload = ResultStore(Store(self.results)).find(key).payload
        if self.payload is None:
            raise ValueError(f"{key} is not stored")
        if path.endswith(_PAYLOAD):
            return self.payload
        return json.dumps({"storage_key": key + _PAYLOAD, "serializer": {"type": "arrow"}}).encode()

    def write_path(self, path: str, content: bytes, _sync: bool = True) -> None:  # type: ignore[override]
        """Nothing: what is worth keeping is stored already."""

    def _resolve_path(self, path: str) -> None:
        """Prefect asks for a local path, and there is none."""
