"""Digests of files from earlier scans, so that a scan reads only what was written since.

What a store says of a file (size, times, tag) stands for its content in two cases: the store names each content by a
tag, as object stores do; or the file is on this machine's disk and had not been written to for a while when it was
read, since a second write within the resolution of the file's times would not show. Other files are read at each scan.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from quant_core.storage.references import Reference, atomic_write
from quant_core.urls import is_remote
from tasks.cache.sources import code_digest

__all__ = ["DigestCache"]

_RESOLUTION = 2.0
"""Seconds; the coarsest that file systems have (FAT)."""

_TAGS = ("ETag", "etag", "generation", "md5Hash")
"""Names that object stores give to what changes with the content."""

_VERSION, _MOST = 1, 10_000


@dataclass
class DigestCache:
    """Digests of files by their URLs, with what the store said of them."""

    file: Path | None = None
    """Where this machine keeps them between scans, if it does. A damaged file is ignored."""
    _known: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self._known = self._read()

    def reference(self, url: str, refer: Callable[[str], Reference]) -> Reference:
        """Return the reference of a file or folder; `refer` is called to read it only if it may have been written."""
        key = hashlib.sha256(url.encode()).hexdigest()  # a URL may hold what is secret
        known = self._known[key] = self._known.pop(key, {"told": None, "sha256": "", "beside": []})
        began, identity = time.time(), _identity(url, known["beside"])
        if identity is not None and json.dumps(identity) == json.dumps(known["told"]):
            return Reference(url=url, sha256=known["sha256"], beside=tuple(known["beside"]))
        found = refer(url)
        # If the files beside it are others than was known, the store was not asked about them before they were read.
        sure = identity is not None and list(found.beside) == known["beside"] and _is_settled(identity, began)
        self._known[key] = {"told": identity if sure else None, "sha256": found.sha256, "beside": list(found.beside)}
        return found

    def save(self) -> None:
        """Write the digests for the next scan."""
        if self.file is not None:
            latest = dict(list(self._known.items())[-_MOST:])
            content = {"version": _VERSION, "engine": code_digest("quant_core.model.model_file"), "known": latest}
            with suppress(OSError):  # such as a full disk: then everything is read again
                atomic_write(self.file, json.dumps(content).encode())

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.file.read_bytes()) if self.file else {}
            known = content["known"] if _is_ours(content) else {}
            return {key: one for key, one in known.items() if _is_entry(one)}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}


def _is_ours(content: Mapping[str, Any]) -> bool:
    return content.get("version") == _VERSION and content.get("engine") == code_digest("quant_core.model.model_file")


def _is_entry(known: Mapping[str, Any]) -> bool:
    return known.keys() == {"told", "sha256", "beside"} and isinstance(known["beside"], list)


def _identity(url: str, beside: Sequence[str]) -> list[Any] | None:
    """Return what the store says of a file and those beside it, or of a folder's files.

    None when that does not tell one content from another.
    """
    try:
        files, path = url_to_fs(url)
        files.invalidate_cache()
        if files.isdir(path):
            found = dict(files.find(path, detail=True))
        else:
            found = {name: files.info(name) for name in [path, *(f"{path.rpartition('/')[0]}/{one}" for one in beside)]}
    except Exception:  # whoever reads the file reports what is wrong
        return None
    facts_by_file = [[name, *_facts_of_content(facts, is_remote(url))] for name, facts in sorted(found.items())]
    return facts_by_file if facts_by_file and all(len(one) > 1 for one in facts_by_file) else None


def _facts_of_content(facts: Mapping[str, Any], remote: bool) -> list[Any]:
    """Return the facts that change with a file's content; empty where none is sure to."""
    if not remote:
        # A link has times of its own.
        return [] if facts.get("islink") else [facts["size"], facts["ino"], facts["mtime"], facts["created"]]
    tags = [str(facts[tag]) for tag in _TAGS if facts.get(tag)]
    when = [str(facts[key]) for key in ("LastModified", "last_modified", "updated") if key in facts]
    return [facts.get("size"), *tags, *when] if tags and not tags[0].startswith("W/") else []


def _is_settled(identity: Sequence[Sequence[Any]], began: float) -> bool:
    """Return whether no file was written to just before it was read; a tag changes with every write."""
    return all(isinstance(one[2], str) or max(one[-2:]) < began - _RESOLUTION for one in identity)
