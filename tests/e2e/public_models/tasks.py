"""What tasks make of outputs: of the float model's beside those of the quantized one's."""

from __future__ import annotations

import numpy as np

from tests.e2e.public_models.record import Array, Outputs

__all__ = [
    "boxes_and_scores",
    "closest_agree",
    "frames_of_speech",
    "lines_read",
    "notes_heard",
    "pixels_marked",
    "same_boxes",
    "same_classes",
    "same_signs",
]


def _first(found: Outputs) -> Array:
    return next(iter(found.values()))


def lines_read(floats: Outputs, found: Outputs) -> str:
    """Count the lines that greedy CTC decoding reads exactly alike."""
    one, other = ([_decoded(line[0]) for line in _first(outputs)] for outputs in (floats, found))
    return f"{sum(a == b for a, b in zip(one, other, strict=True))} of {len(one)} lines read exactly alike"


def _decoded(scores: Array) -> list[int]:
    best = scores.argmax(-1)
    return [int(now) for now, before in zip(best, [0, *best[:-1]], strict=True) if now and now != before]


def same_classes(floats: Outputs, found: Outputs) -> str:
    """Count the samples whose largest class is the same, by the last output."""
    one, other = (outputs[list(outputs)[-1]].argmax(-1) for outputs in (floats, found))
    return f"{(one == other).sum()} of {one.size} classified alike"


def same_signs(floats: Outputs, found: Outputs) -> str:
    """Tell the share of values whose sign is the same."""
    return f"{((_first(floats) > 0) == (_first(found) > 0)).mean():.1%} of signs alike"


def pixels_marked(floats: Outputs, found: Outputs, threshold: float = 0.3) -> str:
    """Tell by how much the areas overlap that are above a threshold."""
    one, other = (_first(outputs) > threshold for outputs in (floats, found))
    return f"areas overlap by {(one & other).sum() / max((one | other).sum(), 1):.1%}"


def same_boxes(floats: Outputs, found: Outputs) -> str:
    """Compare the anchors whose best class scores above 0.2, by place and class."""
    one, other = (_detected(_first(outputs)) for outputs in (floats, found))
    return f"{len(one & other)} of {len(one)} detections found again, {len(other - one)} new"


def _detected(output: Array) -> set[tuple[int, int, int]]:
    scores = output[:, 0, 4:]
    return {(int(row), int(at), int(scores[row, :, at].argmax())) for row, at in np.argwhere(scores.max(1) > 0.2)}


def boxes_and_scores(found: Outputs) -> Outputs:
    """Return the rows of a YOLO head that are boxes, and those that are scores."""
    return {"boxes": _first(found)[:, 0, :4], "scores": _first(found)[:, 0, 4:]}


def notes_heard(floats: Outputs, found: Outputs) -> str:
    """Count the keys that are down in a frame, by the second of basic-pitch's outputs."""
    one, other = (outputs[list(outputs)[1]] > 0.5 for outputs in (floats, found))
    return f"{(one & other).sum()} of {one.sum()} notes of frames heard again, {(other & ~one).sum()} new"


def frames_of_speech(floats: Outputs, found: Outputs) -> str:
    """Count the frames that are called speech in both."""
    one, other = (_first(outputs).ravel() > 0.5 for outputs in (floats, found))
    return f"{(one == other).sum()} of {one.size} frames called alike ({one.sum()} of them speech)"


def closest_agree(floats: Outputs, found: Outputs) -> str:
    """Count the sentences whose closest other sentence is the same."""
    one, other = (_closest(_first(outputs)) for outputs in (floats, found))
    return f"{(one == other).sum()} of {len(one)} sentences have the same nearest neighbour"


def _closest(vectors: Array) -> Array:
    rows = vectors.reshape(len(vectors), -1).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    products = rows @ rows.T
    np.fill_diagonal(products, -1)
    return products.argmax(1)
