"""The published versions of a model. A version is there whole or not at all.

    NAME/VERSION/      a run's output folder, named by the digest of model, data and options
    NAME/current.json  the newest version that meets its target, and where its model is; after a rollback, the
                       version that was chosen, and in `rolled_back` those that no scan makes current again
    NAME/history.json  the versions that were current before, the newest last

A version never changes once it is there, and `current.json` is written last, in one write: its reader never
finds a half-written model, nor a mix of two.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from typing import Any

from quant_core.errors import InputError
from quant_core.manifest import Manifest
from quant_core.model.stored_model import MODEL_FILE
from quant_core.results.manifest_file import parsed_manifest
from quant_core.results.output_place import MANIFEST
from quant_core.storage.scratch import clear_leftovers
from quant_core.storage.store import Store

__all__ = ["ModelVersions"]

_CURRENT, _HISTORY = "current.json", "history.json"


@dataclass(frozen=True)
class ModelVersions:
    """The versions of one model."""

    place: Store
    """The folder that has the model's name."""

    def output(self, version: str) -> Store:
        """Return the output folder of a version."""
        return self.place / version

    def finished(self, version: str) -> Manifest | None:
        """Return the manifest of a version, or None if there is none. Raises InputError for a damaged one."""
        content = self.output(version).read(MANIFEST)
        if content is None:
            return None
        try:
            return parsed_manifest(content, MANIFEST)
        except InputError:
            raise InputError(
                f"{self.output(version)}: its {MANIFEST} is damaged; remove the folder to have it made again"
            ) from None

    def clear_leftovers(self) -> None:
        """Remove what killed scans have left of versions that they had not finished."""
        if self.place.folder is not None:
            clear_leftovers(self.place.folder)

    def make_room(self, version: str) -> None:
        """Remove the rest of a version whose manifest somebody has removed."""
        folder = self.output(version).folder
        if folder is not None and folder.exists():
            shutil.rmtree(folder)

    def point_to(self, version: str, manifest: Manifest) -> bool:
        """Make a version the current one if it meets its target; return whether it was another before.

        A dry run with random data never becomes the current one, and a version that a person has rolled back from stays
        so until a person takes it again.
        """
        before = self._current()
        if not manifest.target.met or manifest.data.random or version in before.get("rolled_back", []):
            return False
        return self._write(version, manifest, before, before.get("rolled_back", []))

    def roll_back(self, version: str | None = None) -> str:
        """Make an earlier version the current one, in one write, and return its name.

        Without a version, the one that was current before. Raises InputError where there is none, where it misses its
        target, and where its model is not what its manifest says.
        """
        before = self._current()
        chosen = version or self._last(before)
        manifest = self.finished(chosen)
        if manifest is None:
            raise InputError(f"{self.output(chosen)}: no such version; there are {', '.join(self.names()) or 'none'}")
        if not manifest.target.met or manifest.data.random:
            why = "was made with random data" if manifest.data.random else "misses its target"
            raise InputError(f"{self.output(chosen)}: {why}; choose a version that meets its target on data")
        model = self.output(chosen).read(MODEL_FILE)
        if model is None or hashlib.sha256(model).hexdigest() != manifest.output.sha256:
            raise InputError(f"{self.output(chosen)}: its {MODEL_FILE} is not what its {MANIFEST} says")
        left = [before["version"]] if before.get("version", chosen) != chosen else []
        barred = [one for one in (*before.get("rolled_back", []), *left) if one != chosen]
        self._write(chosen, manifest, before, barred)
        return chosen

    def names(self) -> list[str]:
        """Return the names of the versions that are complete, sorted."""
        return sorted(
            {
                name.rpartition("/")[0]
                for name in self.place.names("")
                if name.count("/") == 1 and name.endswith(f"/{MANIFEST}")
            }
        )

    def _last(self, before: dict[str, Any]) -> str:
        """Return the version that was current before, leaving out those that were rolled back from."""
        barred = before.get("rolled_back", [])
        earlier = [one for one in self._history() if one not in barred and one != before.get("version")]
        if not earlier:
            raise InputError(
                f"{self.place}: no version was current before this one; name one of {', '.join(self.names()) or 'none'}"
            )
        return str(earlier[-1])

    def _current(self) -> dict[str, Any]:
        """Return what `current.json` says; nothing where there is none. Raises InputError for a damaged one."""
        found = self._json(_CURRENT, {})
        if not isinstance(found, dict):
            raise InputError(f"{self.place / _CURRENT}: is damaged; remove it, and the next scan writes it again")
        return found

    def _history(self) -> list[str]:
        """Return the versions that were current before, the newest last."""
        found = self._json(_HISTORY, [])
        return [str(one) for one in found] if isinstance(found, list) else []

    def _json(self, name: str, default: object) -> object:
        content = self.place.read(name)
        try:
            return default if content is None else json.loads(content)
        except ValueError:
            return None

    def _write(self, version: str, manifest: Manifest, before: dict[str, Any], barred: list[str]) -> bool:
        """Write `current.json`, after the history, unless it says so already; return whether it did not."""
        current: dict[str, Any] = {
            "version": version,
            "model": f"{version}/{MODEL_FILE}",
            "sha256": manifest.output.sha256,
            "input_sha256": manifest.input.sha256,
        }
        current |= {"rolled_back": list(dict.fromkeys(barred))} if barred else {}
        if current == before:
            return False
        if left := before.get("version"):
            history = [one for one in self._history() if one not in (left, version)]
            self.place.write(_HISTORY, json.dumps([*history, left], indent=2).encode())
        self.place.write(_CURRENT, json.dumps(current, indent=2).encode())
        return True
