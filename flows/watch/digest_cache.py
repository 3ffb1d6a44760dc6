"""Digests of files as earlier looks found them, so that a look reads only what was written since.

What a store tells of a file (size, times, tag) stands for its content where the store names each content by a tag, as
object stores do, or where the file is on this machine's disk and had not been written to for a while when it was read:
a second write within the resolution of its times would not show. All other files are read in full at each look.
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

__all__ = ["KnownDigests"]

_RESOLUTION = 2.0
"""Seconds; the coarsest that file systems have (FAT)."""

_TAGS = ("ETag", "etag", "generation", "md5Hash")
"""What object stores call that which changes with the content."""

_VERSION, _MOST = 1, 10_000


@dataclass
class KnownDigests:
    """Digests of files by their URLs, with what the store told of them."""

    file: Path | None = None
    """Where this machine keeps them from look to look, if it does. A damaged file counts for nothing."""
    _known: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self._known = self._read()

    def of(self, url: str, refer: Callable[[str], Reference]) -> Reference:
        """The reference that `refer` gives for a file or folder, without a call of it where nothing was written."""
        key = hashlib.sha256(url.encode()).hexdigest()  # a URL may hold what is secret
        known = self._known[key] = self._known.pop(key, {"told": None, "sha256": "", "beside": []})
        began, told = time.time(), _told(url, known["beside"])
        if told is not None and json.dumps(told) == json.dumps(known["told"]):
            return Reference(url=url, sha256=known["sha256"], beside=tuple(known["beside"]))
        found = refer(url)
        # Of files beside it that it was not known to have, nothing was asked before they were read.
        sure = told is not None and list(found.beside) == known["beside"] and _is_settled(told, began)
        self._known[key] = {"told": told if sure else None, "sha256": found.sha256, "beside": list(found.beside)}
        return found

    def save(self) -> None:
        """Keep them for the next look."""
        if self.file is not None:
            latest = dict(list(self._known.items())[-_MOST:])
            content = {"version": _VERSION, "engine": code_digest("quant_core.model.model_file"), "known": latest}
            with suppress(OSError):  # of a full disk, say: then all is read again
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


def _told(url: str, beside: Sequence[str]) -> list[Any] | None:
    """What the store tells of a file and others beside it, or of a folder's files; None when that says nothing."""
    try:
        files, path = url_to_fs(url)
        files.invalidate_cache()
        if files.isdir(path):
            found = dict(files.find(path, detail=True))
        else:
            found = {name: files.info(name) for name in [path, *(f"{path.rpartition('/')[0]}/{one}" for one in beside)]}
    except Exception:  # whoever reads it says what is wrong
        return None
    told = [[name, *_identity(facts, is_remote(url))] for name, facts in sorted(found.items())]
    return told if told and all(len(one) > 1 for one in told) else None


def _identity(facts: Mapping[str, Any], remote: bool) -> list[Any]:
    """What changes with a file's content; empty where nothing is sure to."""
    if not remote:
        # A link has times of its own.
        return [] if facts.get("islink") else [facts["size"], facts["ino"], facts["mtime"], facts["created"]]
    tags = [str(facts[tag]) for tag in _TAGS if facts.get(tag)]
    when = [str(facts[key]) for key in ("LastModified", "last_modified", "updated") if key in facts]
    return [facts.get("size"), *tags, *when] if tags and not tags[0].startswith("W/") else []


def _is_settled(told: Sequence[Sequence[Any]], began: float) -> bool:
    """Whether none of the files was written to just before it was read; a tag changes however soon."""
    return all(isinstance(one[2], str) or max(one[-2:]) < began - _RESOLUTION for one in told)
