"""Small pictures of samples that are images, as PNG files."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["thumbnail"]

_LONGEST = 96
"""Pixels of the longer side, at most."""
_SHORTEST = 8
"""Values along a side from which on an array is taken for a picture."""


def thumbnail(sample: NDArray[np.generic]) -> bytes | None:
    """Return a picture of a sample, or None where it is none: of three axes, one of 1 or 3 channels.

    Values are stretched from the smallest to the largest: what was subtracted and divided by beforehand is not known.
    """
    if sample.ndim != 3 or sample.dtype.kind not in "fiu":
        return None
    for channels in (0, 2):
        pixels = np.moveaxis(sample, channels, 2)
        if pixels.shape[2] in (1, 3) and min(pixels.shape[:2]) >= _SHORTEST and np.isfinite(pixels).all():
            step = -(-max(pixels.shape[:2]) // _LONGEST)
            return _png(_stretched(pixels[::step, ::step].astype(np.float64)))
    return None


def _stretched(pixels: NDArray[np.float64]) -> NDArray[np.uint8]:
    low, high = pixels.min(), pixels.max()
    scaled: NDArray[np.uint8] = np.rint((pixels - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)
    return scaled


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """Write rows of grey or coloured pixels, of shape [height, width, 1 or 3], as a PNG file."""
    height, width, channels = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)  # each begins with its filter: none
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows, 9)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
