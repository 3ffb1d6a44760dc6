"""Where step results are kept between runs: one Arrow file a step, named by the step's key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quant_core.errors import InputError, UnsupportedError
from quant_core.tables import facts, from_ipc

__all__ = ["ResultStore", "workspace_folder"]


@dataclass(frozen=True)
class ResultStore:
    """A folder of results, and one of the small records by which Prefect knows they are complete."""

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
        """What is wrong with a stored result that Prefect would take for good; None when nothing is."""
        if not (self.records / key).exists():
            return None
        try:
            table = from_ipc((self.results / key).read_bytes())
        except FileNotFoundError:
            return "its file is gone"
        except InputError as error:
            return str(error)
        return None if facts(table).get("key") == key else "it belongs to another step"


def workspace_folder(workspace: str | None, default: Path) -> Path:
    """The workspace as a local folder."""
    if workspace is None:
        return default
    if "://" in workspace and not workspace.startswith("file://"):
        raise UnsupportedError(f"workspace {workspace}: only local folders are supported yet; give a path")
    return Path(workspace.removeprefix("file://"))
