"""manifest.json: the manifest as a file, sealed with a digest by which a later command sees that nobody changed it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from quant_core.errors import InputError
from quant_core.manifest import Manifest
from quant_core.results.output_place import MANIFEST
from quant_core.storage.finite_json import finite_or_null

__all__ = ["manifest_json", "parsed_manifest", "read_manifest", "sealed", "was_changed"]

_SEAL = "digest"
_KEYS = {"narrowcast", "input", "output", "wide", "narrow", "target", "scores", "plan", "narrowed", "config"}
_SEALED_KEYS = _KEYS | {"tables", _SEAL}


def sealed(manifest: Manifest) -> Manifest:
    """Return the manifest with the digest of all else in it."""
    return manifest.model_copy(update={_SEAL: _digest(manifest.model_dump(mode="json"))})


def was_changed(content: Mapping[str, Any]) -> bool:
    """Return whether a manifest.json, parsed as JSON, says something else than what was sealed."""
    return bool(_SEAL in content and content[_SEAL] != _digest(content))


def _digest(content: Mapping[str, Any]) -> str:
    kept = {name: value for name, value in content.items() if name != _SEAL}
    return hashlib.sha256(json.dumps(finite_or_null(kept), sort_keys=True).encode()).hexdigest()


def manifest_json(manifest: Manifest) -> str:
    """Return the manifest as JSON; a score that is not finite becomes null."""
    return json.dumps(finite_or_null(manifest.model_dump(mode="json")), indent=2, allow_nan=False)


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a finished run; raises InputError when there is none, or it is not what the run wrote."""
    if not folder.is_dir():
        raise InputError(
            f"{folder}: {'is a file' if folder.exists() else 'no such folder'}; give a run's output folder"
        )
    file = folder / MANIFEST
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{folder}: holds no {MANIFEST}, so no run has finished there") from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: is not JSON: {error}") from error
    _check_keys(content, _SEALED_KEYS, str(file))
    if was_changed(content):
        raise InputError(f"{file}: was changed after the run wrote it; run again to write it anew")
    return _manifest(content, str(file))


def parsed_manifest(text: str | bytes, name: str) -> Manifest:
    """Return the manifest in the text of a file of that name, sealed or not; raises InputError if it is none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: is not JSON: {error}") from error
    _check_keys(content, _KEYS, name)
    return _manifest(content, name)


def _check_keys(content: object, keys: set[str], name: str) -> None:
    missing = sorted(keys - content.keys()) if isinstance(content, dict) else ["everything"]
    if missing:
        raise InputError(f"{name}: is not a manifest of narrowcast: it lacks {', '.join(missing)}")


def _manifest(content: Mapping[str, Any], name: str) -> Manifest:
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{name}: is not a manifest of narrowcast: {place}: {first['msg']}") from error
