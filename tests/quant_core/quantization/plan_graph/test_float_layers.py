"""Layers that stay float between pairs are float in a default session, too."""

import numpy as np
import pytest

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.model.sessions import Numerics, open_file
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        pytest.param("chain", "c2", id="Conv with a bias"),
        pytest.param("chain", "c3", id="Conv without a bias"),
        pytest.param("gemm-variants", "turned", id="Gemm"),
        pytest.param("transposed", "groups", id="ConvTranspose of groups"),
        pytest.param("transposed", "groups without a bias", id="ConvTranspose of groups without a bias"),
    ],
)
def test_a_layer_left_out_has_its_float_weight_as_deployed(name, left_out, tmp_path):
    model = MODELS[name]()
    left_out, _, without_bias = left_out.partition(" ")
    for node in model.graph.node:
        if without_bias and node.name == left_out:
            del node.input[2:]
    data = samples(model, 8)
    options = {"wide": "a16w8", "narrow": ["a16w4"], "exclude": [left_out], "target": {"metric": "l2", "limit": 1e9}}
    given = {"calibration": data, "evaluation": data, "config": config_from(**options), "workers": 1}
    file = auto_mixed_precision(saved(model, tmp_path), output=tmp_path / "out", **given).folder / "model.onnx"
    [said], [deployed] = (open_file(file, how)(data).values() for how in (Numerics.SHIPPED, Numerics.DEPLOYED))
    np.testing.assert_allclose(deployed, said, atol=2e-4 * np.abs(said).max())
