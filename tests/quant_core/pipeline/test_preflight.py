import pytest

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.errors import InputError
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved


def test_layers_are_not_timed_in_another_runtime_than_the_one_that_is_asked_for(tmp_path):
    model = MODELS["chain"]()
    config = config_from(
        target={"metric": "l2", "limit": 1.0}, runtime="openvino", wide="float32", narrow=["a8w8"], cost="latency"
    )
    data = samples(model, 4)
    with pytest.raises(InputError, match="layers are timed in ONNX Runtime, which says nothing of openvino"):
        auto_mixed_precision(
            saved(model, tmp_path), calibration=data, evaluation=data, config=config, output=tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()
