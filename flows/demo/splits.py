"""The digits in the parts the demo uses. The network was trained on neither `evaluation` nor `holdout`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Part", "digit_splits", "training_part"]

Part = dict[str, NDArray[np.generic]]
"""Arrays by name, one entry per digit."""

_DIGITS = Path(__file__).parent / "digits.npz"
_SEED = 0
_TRAINING, _CALIBRATION, _EVALUATION = 897, 256, 450


def digit_splits() -> dict[str, Part]:
    """Load the parts `calibration` (256 of the training digits), `evaluation` (450) and `holdout` (450).

    Each has `input`, float32 [n, 1, 8, 8], and `labels`, int64 [n].
    """
    seen_until = _TRAINING + _EVALUATION
    return {
        "calibration": _part(slice(_CALIBRATION)),
        "evaluation": _part(slice(_TRAINING, seen_until)),
        "holdout": _part(slice(seen_until, None)),
    }


def training_part() -> Part:
    """Load the 897 digits the network is trained on."""
    return _part(slice(_TRAINING))


def _part(chosen: slice) -> Part:
    with np.load(_DIGITS) as digits:
        # Shuffled: neighbours in the file are by the same writer.
        order = np.random.default_rng(_SEED).permutation(len(digits["labels"]))
        images, labels = digits["images"][order], digits["labels"][order]
    # Every pixel is standardised over the training digits, as scikit-learn's StandardScaler does. A pixel near
    # the border is hardly ever inked, so when it is, its value is large: the few outliers of up to 30 standard
    # deviations stretch the range that an 8-bit input has to cover.
    training = images[:_TRAINING].astype(np.float64)
    mean, deviation = training.mean(axis=0), training.std(axis=0)
    standardised = (images[chosen] - mean) / np.where(deviation > 0, deviation, 1)
    return {"input": standardised.astype(np.float32)[:, np.newaxis], "labels": labels[chosen].astype(np.int64)}
