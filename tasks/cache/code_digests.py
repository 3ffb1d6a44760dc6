"""The digests of the engine's code, kept in the user's cache folder: they are the same while its files are.

Finding them parses most of the engine's modules, which takes longer than many a search.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

import quant_core
from quant_core.execution.machine import default_cache
from quant_core.storage.references import atomic_write, made_folder
from tasks.cache import sources

__all__ = ["kept_code_digest"]


@cache
def kept_code_digest(module: str) -> str:
    """Return `sources.code_digest` of a module of the engine, as an earlier run found it if no file has changed."""
    file, files = default_cache() / "code_digests.json", _files_digest()
    known = _kept(file, files)
    if module not in known:
        known = {**known, module: sources.code_digest(module)}
        with suppress(OSError):  # such as a read-only folder: the next run finds it again
            made_folder(file.parent)
            atomic_write(file, json.dumps({"files": files, "digests": known}).encode(), lasting=False)
    return known[module]


def _kept(file: Path, files: str) -> Mapping[str, str]:
    """Return what a file keeps of the same engine; nothing where it is damaged, or of another."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        kept = json.loads(file.read_bytes())
        digests = kept["digests"] if kept["files"] == files else {}
        return {str(module): str(digest) for module, digest in digests.items()}
    return {}


@cache
def _files_digest() -> str:
    """Return a sha256 over the files of the engine, and the one that says how a digest is found."""
    root, digest = Path(quant_core.__file__).parent, hashlib.sha256()
    for file in (Path(sources.__file__), *sorted(root.rglob("*.py"))):
        digest.update(f"{file.relative_to(root.parent).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()
