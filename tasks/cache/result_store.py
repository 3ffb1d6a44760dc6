"""Where step results are kept between runs: one Arrow file a step, named by the step's key."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from quant_core.errors import InputError
from quant_core.storage.store import Store
from quant_core.storage.tables import facts, from_ipc, to_ipc

__all__ = ["ResultStore", "Stored"]


@dataclass(frozen=True)
class Stored:
    """What the store has of a step."""

    payload: bytes | None = None
    """The whole Arrow file; None when there is none."""
    flaw: str | None = None
    """Why what is there is no result of the step."""


@dataclass(frozen=True)
class ResultStore:
    """A folder of results. Each carries its own digest and key, by which it is known to be whole and in its place."""

    place: Store
    """The folder."""

    def find(self, key: str) -> Stored:
        """Return what is stored of a step. Raises OutageError when the store does not answer."""
        try:
            payload = self.place.read(key)
        except OSError as error:
            return Stored(flaw=f"it cannot be read: {error.strerror or error}")
        if payload is None:
            return Stored()
        try:
            intact = facts(from_ipc(payload)).get("key") == key
        except (InputError, ValueError) as error:
            return Stored(flaw=str(error))
        return Stored(payload) if intact else Stored(flaw="it belongs to another step")

    def load(self, key: str) -> pa.Table:
        """The result of a step that is known to be there; raises InputError when it is not, or is damaged."""
        found = self.find(key)
        if found.payload is None:
            raise InputError(f"{self.place}/{key}: {found.flaw or 'there is no such result'}")
        return from_ipc(found.payload)

    def put(self, key: str, table: pa.Table) -> None:
        """Store the result of a step, which bears its key. Raises OutageError or OSError when that cannot be done."""
        self.place.write(key, to_ipc(table), lasting=False)  # `find` notices, and the step is computed again
