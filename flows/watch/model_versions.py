"""The published versions of a model. A version is there whole or not at all.

    NAME/VERSION/      a run's output folder, named by the digest of model, data and options
    NAME/current.json  the newest version that meets its target, and where its model is

A version never changes once it is there, and `current.json` is written last, in one write: whoever follows it never
finds a half-written model, nor a mix of two.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass

from quant_core.errors import InputError
from quant_core.manifest import Manifest
from quant_core.results.manifest_file import parsed_manifest
from quant_core.results.output_place import MANIFEST
from quant_core.storage.scratch import clear_leftovers
from quant_core.storage.store import Store

__all__ = ["ModelVersions"]

_CURRENT = "current.json"


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

        A dry run with random data never becomes the current one.
        """
        if not manifest.target.met or manifest.data.random:
            return False
        current = {
            "version": version,
            "model": f"{version}/model.onnx",
            "sha256": manifest.output.sha256,
            "input_sha256": manifest.input.sha256,
        }
        content = json.dumps(current, indent=2).encode()
        if self.place.read(_CURRENT) == content:
            return False
        self.place.write(_CURRENT, content)
        return True
