"""What of a URL may be shown: messages, logs, manifests and artifacts never hold what may be secret."""

from __future__ import annotations

import os
import re

__all__ = ["is_remote", "redacted"]

_USER = re.compile(r"(?<=://)[^/\s'\"]*@")
_QUERY = re.compile(r"(://[^?\s'\"]*)[?#][^\s'\"]*")


def redacted(text: str | os.PathLike[str]) -> str:
    """A text without the user, password, query and fragment of each URL in it."""
    return _QUERY.sub(r"\1", _USER.sub("", os.fspath(text)))


def is_remote(url: str) -> bool:
    """Return whether a place is not simply a path of this machine."""
    return "://" in url and not url.startswith(("file://", "local://"))
