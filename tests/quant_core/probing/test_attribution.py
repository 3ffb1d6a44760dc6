"""What of a layer's loss is due to its activations, and what to its weights."""

from __future__ import annotations

import pyarrow as pa
import pytest

from quant_core.precision import Precision
from quant_core.probing.attribution import layer_losses
from quant_core.storage.schemas import SENSITIVITY


def ranking(**losses):
    rows = [
        {"layer": "a", "precision": name, "loss": loss, "standard_error": 0.0, "samples": 8, "seconds": 0.0}
        | {"bops_saved": 0, "bytes_saved": 0}
        for name, loss in losses.items()
    ]
    return pa.Table.from_pylist(sorted(rows, key=lambda row: row["loss"]), schema=SENSITIVITY)


def losses(wide, *narrow, **probed):
    return layer_losses(ranking(**probed), Precision.parse(wide), [Precision.parse(one) for one in narrow])


@pytest.mark.parametrize(
    ("precision", "wide", "activations", "weights"),
    [
        ("a8w8", "a16w16", "a8w16", "a16w8"),
        ("a8w4", "a16w8", "a8w8", "a16w4"),
        ("au8w8", "float32", "au8w16", "a16w8"),
    ],
)
def test_a_side_has_the_other_as_wide_or_in_16_bits_beside_a_float(precision, wide, activations, weights):
    sides = Precision.parse(precision).sides(Precision.parse(wide))
    assert tuple(map(str, sides)) == (activations, weights)


def test_the_share_is_that_of_the_two_sides():
    (found,) = losses("a16w16", "a8w8", a8w8=5.0, a8w16=3.0, a16w8=1.0)
    assert (found.activations, found.weights, found.activation_share) == (3.0, 1.0, 0.75)


def test_a_side_that_is_the_wide_precision_costs_nothing():
    (found,) = losses("a16w8", "a8w8", a8w8=5.0)
    assert (found.activations, found.weights, found.activation_share) == (5.0, 0.0, 1.0)


def test_a_float_has_no_sides_and_no_loss_no_share():
    found = losses("float32", "float16", float16=2.0)[0]
    assert (found.activations, found.weights, found.activation_share) == (None, None, None)
    assert losses("a16w16", "a8w8", a8w8=0.0, a8w16=0.0, a16w8=0.0)[0].activation_share is None
