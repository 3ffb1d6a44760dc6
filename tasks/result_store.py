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

    def damage(self, key: str) -> str | None:
        """What is wrong with the stored result of a step that was finished; None when nothing is."""
        result = self.results / key
        if not result.exists():
            return "its file is gone" if (self.records / key).exists() else None
        try:
            table = from_ipc(result.read_bytes())
            return None if facts(table).get("key") == key else "it belongs to another step"
        except InputError as error:
            return str(error)
        except (OSError, ValueError) as error:
            return f"it cannot be read: {error}"

    def settle(self, key: str) -> str | None:
        """Leave what Prefect may rely on: a whole result with a record of it, or no record. Tells of damage."""
        damage, record = self.damage(key), self.records / key
        if damage or not (self.results / key).exists():
            record.unlink(missing_ok=True)
        elif self._recorded(record) != self._record_of(key):
            # Gone, foreign, or from where the workspace was before it was moved.
            content = self._record_of(key) | {"prefect_version": prefect.__version__}
            atomic_write(record, json.dumps(content).encode())
        return damage

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
