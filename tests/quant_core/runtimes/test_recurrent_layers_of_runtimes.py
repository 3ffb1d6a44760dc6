"""What runtimes are known to do with recurrent layers, and what is legal for those that do not take all."""

import numpy as np
import pytest

from quant_core.config import config_from
from quant_core.config.layer_operators import default_layer_ops
from quant_core.errors import InputError
from quant_core.model.operators import RECURRENT_OPS
from quant_core.runtimes.registry import PROFILES, profile_of
from quant_core.runtimes.written_model import WrittenModel
from tests.quant_core.quantization.test_recurrent_layers import HIDDEN, STEPS, recurrent
from tests.quant_core.workbench import bench

TAKEN = {
    **dict.fromkeys(("onnxruntime", "onnxruntime-vnni", "onnxruntime-web", "tract", "reference"), "LSTM GRU RNN"),
    **{"openvino": "", "qnn": "LSTM GRU", "vitisai": "", "tensorrt": "", "tvm": ""},
}
TARGET = {"metric": "l2", "limit": 1.0}
FEEDS = {
    "x": np.random.default_rng(0).standard_normal((STEPS, 4, 3)).astype(np.float32),
    "h0": np.zeros((1, 4, HIDDEN), np.float32),
}


@pytest.mark.parametrize("runtime", PROFILES)
def test_recurrent_operators_are_layers_by_default_where_that_is_known_to_work(runtime):
    found = config_from(target=TARGET, runtime=runtime).layer_ops
    assert " ".join(op for op in found if op in RECURRENT_OPS) == TAKEN[runtime]


def test_openvino_takes_them_beside_floats_alone():
    assert "LSTM" in default_layer_ops(("float32w8",), "openvino")
    assert "LSTM" not in default_layer_ops(("au8w8", "float32w8"), "openvino")


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        ("tensorrt", "tensorrt is not known to run LSTM"),
        ("openvino", "openvino runs LSTM beside floats only, not at au8w8"),
    ],
)
def test_an_operator_that_is_asked_for_all_the_same_is_refused_in_words(runtime, said):
    config = config_from(target=TARGET, runtime=runtime, layer_ops=("Conv", "LSTM"))
    with pytest.raises(InputError, match=said):
        profile_of(runtime).check_layers(config.layer_ops, config.ladder)


def test_weights_of_recurrent_layers_have_one_scale_for_qnn(tmp_path):
    for runtime, broken in (("qnn", False), ("reference", True)):
        made = bench(recurrent("lstm"), tmp_path, FEEDS, wide="float32", per_channel=True, runtime=runtime)
        written = WrittenModel(made.exported(made.plan("rnn", precision="au8w8")))
        found = [finding.rule for finding in profile_of("qnn").findings(written)]
        assert ("one-scale-beside-states" in found) == broken
