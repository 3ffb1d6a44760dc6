"""What a probe measures."""

from __future__ import annotations

import numpy as np
import pytest

from quant_core.precision import DataType, Precision
from quant_core.probing.incremental import IncrementalModel
from quant_core.probing.probe import unrounded_types
from tests.models import MODELS, samples
from tests.quant_core.workbench import bench


def unrounded(wide, narrow):
    return unrounded_types(Precision.parse(wide), Precision.parse(narrow))


@pytest.mark.parametrize("narrow", ["a8w8", "au8w8", "a16w4"])
def test_a_step_too_fine_to_matter_is_left_out(narrow):
    assert unrounded("a16w8", narrow) == {DataType.INT16}


@pytest.mark.parametrize(
    ("wide", "narrow"), [("a16w8", "au16w8"), ("a8w8", "a8w4"), ("float32", "a8w8"), ("float16", "a8w8")]
)
def test_a_step_that_is_what_a_probe_measures_is_kept(wide, narrow):
    assert unrounded(wide, narrow) == set()


@pytest.mark.parametrize("name", ["chain", "residual", "concat", "layer-is-output", "if-body"])
def test_losses_are_the_same_without_the_finest_steps(tmp_path, name):
    made = bench(MODELS[name](), tmp_path, samples(MODELS[name](), 400))
    plans = [made.plan(layer) for layer in made.names]
    losses = []
    for types in (frozenset(), frozenset({DataType.INT16})):
        wide, *narrowed = IncrementalModel(made.quantizer, made.wide, plans, unrounded=types).run(made.feeds)
        losses.append([sum(float(((a[key] - wide[key]) ** 2).sum()) for key in wide) for a in narrowed])
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)
