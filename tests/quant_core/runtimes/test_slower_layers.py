from types import SimpleNamespace

import onnx
import pytest

from quant_core.model.layers import Layer
from quant_core.runtimes.slower_layers import slower_layer


@pytest.mark.parametrize(
    ("op", "shape", "groups", "why"),
    [
        pytest.param("Conv", (32, 3, 3, 3), 1, "a Conv of 3 to 32 channels", id="first of MobileNetV2"),
        pytest.param("Conv", (16, 1, 9), 1, "a Conv of 1 to 16 channels", id="first over sound"),
        pytest.param("Conv", (64, 3, 7, 7), 1, "", id="first of ResNet-50"),
        pytest.param("Conv", (24, 4, 3, 3), 1, "", id="four input channels"),
        pytest.param("Conv", (8, 8, 3, 3), 1, "", id="few channels in the midst"),
        pytest.param("Conv", (32, 1, 3, 3), 32, "", id="depthwise"),
        pytest.param("Conv", (64, 1, 3, 3), 32, "a Conv of 1 to 2 channels a group", id="depthwise, two outputs each"),
        pytest.param("Conv", (128, 4, 3, 3), 32, "a Conv of 4 to 4 channels a group", id="group of ResNeXt-50"),
        pytest.param("Conv", (96, 24, 3, 3), 4, "", id="groups of many channels"),
        pytest.param("MatMul", (3, 8), 1, "", id="a product of matrices"),
    ],
)
def test_what_few_channels_make_slower_in_8_bits(op, shape, groups, why):
    node = onnx.helper.make_node(op, ["x", "w"], ["y"], group=groups)
    layer = Layer("layer", op, (0,), ("x",), ("w",), (shape,), 1, 1)
    assert slower_layer(SimpleNamespace(nodes=[node]), layer, "qdq") == why
