"""manifest.json: what a run says of itself, with a digest by which a later command knows that it still says that."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant_core.errors import InputError
from quant_core.results.output_place import MANIFEST

__all__ = ["manifest_json", "read_manifest", "sealed", "was_changed"]

_SEAL = "digest"
_KEYS = {"narrowcast", "input", "output", "wide", "narrow", "target", "scores", "plan", "narrowed", "config"}
_KEYS |= {"tables", _SEAL}


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with the digest of all else in it."""
    return {**manifest, _SEAL: _digest(manifest)}


def was_changed(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest says something else than what was sealed."""
    return bool(_SEAL in manifest and manifest[_SEAL] != _digest(manifest))


def _digest(manifest: Mapping[str, Any]) -> str:
    content = {name: value for name, value in manifest.items() if name != _SEAL}
    return hashlib.sha256(json.dumps(_finite(content), sort_keys=True).encode()).hexdigest()


def manifest_json(manifest: Mapping[str, Any]) -> str:
    """A manifest as JSON; a score that is infinite or not a number becomes null, for JSON has no word for it."""
    return json.dumps(_finite(manifest), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_manifest(folder: Path) -> Mapping[str, Any]:
    """The manifest of a finished run; raises InputError when there is none, or it is not what the run wrote."""
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
    missing = sorted(_KEYS - content.keys()) if isinstance(content, dict) else ["everything"]
    if missing:
        raise InputError(f"{file}: is not a manifest of narrowcast: it lacks {', '.join(missing)}")
    if was_changed(content):
        raise InputError(f"{file}: was changed after the run wrote it; run again to write it anew")
    manifest: Mapping[str, Any] = content
    return manifest
