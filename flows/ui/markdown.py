"""Text in the Markdown of Prefect's artifacts."""

from __future__ import annotations

__all__ = ["bold", "plain"]


def plain(text: str) -> str:
    """Return text with what Markdown would take for markup made harmless."""
    return "".join(f"\\{letter}" if letter in "\\`*_<>[]|#" else letter for letter in text)


def bold(text: str, is_bold: bool = True) -> str:
    """Return text, in bold where that is asked for."""
    return f"**{text}**" if is_bold else text
