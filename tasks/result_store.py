"""Where step results are kept between runs: one Arrow file a step, named by the step's key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prefect

from quant_core.errors import InputError
from quant_core.references import atomic_write
from quant_core.tables import facts, from_ipc

__all__ = ["ResultStore"]


@dataclass(frozen=True)
class ResultStore:
    """A folder of results, and one of the small records by which Prefect knows they are complete.

    The results are the truth: each carries its own digest and key. A record says where Prefect finds a result
    and by what it is read, so one that is not of our making could have Prefect unpickle any file.
    """

    workspace: Path
    """The workspace folder."""

    @property
    def results(self) -> Path:
        """Where the Arrow files are."""
        return self.workspace / "results"

    @property
    def records(self) -> Path:
        """Where Prefect's records are."""
        return self.workspace / "records"

    def settle(self, key: str) -> str | None:
        """Leave what Prefect may rely on, a whole result with a record of it or no record; tell of damage.

        A result without a record, from a run that was stopped between the two, gets its record if it is whole.
        """
        record, flaw = self.records / key, self._flaw(key)
        recorded = record.exists()
        if flaw:
            record.unlink(missing_ok=True)
        elif self._recorded(record) != self._record_of(key):
            # Not written any more, foreign, or from where the workspace was before it was moved.
            content = self._record_of(key) | {"prefect_version": prefect.__version__}
            atomic_write(record, json.dumps(content).encode())
        return flaw if recorded else None

    def holds(self, key: str) -> bool:
        """Whether there is a whole result of a step that was settled."""
        return (self.records / key).exists()

    def _flaw(self, key: str) -> str | None:
        """Why there is no whole result of the step; None when there is."""
        try:
            table = from_ipc((self.results / key).read_bytes())
            return None if facts(table).get("key") == key else "it belongs to another step"
        except FileNotFoundError:
            return "its file is gone"
        except (InputError, ValueError) as error:
            return str(error)
        except OSError as error:
            return f"it cannot be read: {error.strerror}"

    def _record_of(self, key: str) -> dict[str, Any]:
        """Prefect's record of a stored result, but for its version."""
        place = str((self.results / key).resolve())
        return {
            "storage_key": place,
            "expiration": None,
            "serializer": {"type": "arrow"},
            "storage_block_id": None,
        }

    def _recorded(self, record: Path) -> Any:
        try:
            content = json.loads(record.read_bytes())
            return {name: value for name, value in content.items() if name != "prefect_version"}
        except (OSError, ValueError, AttributeError):
            return None
