"""Which tensors have one scale between them."""

import onnx
import pytest

from quant_core.calibration.ranges import range_groups
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import find_layers
from quant_core.model.topology import Topology
from tests.models import build


def groups(body, weights, tmp_path):
    graph = FloatGraph(onnx.shape_inference.infer_shapes(build(body, weights)), tmp_path)
    return range_groups(Topology.of(graph, find_layers(graph)))


@pytest.mark.parametrize(
    ("body", "tensor", "sources"),
    [
        pytest.param(
            "p = MaxPool<kernel_shape=[2,2]>(x)  y = Conv(p, w)", "p", ("x",), id="a pool has its input's range"
        ),
        pytest.param("c = Concat<axis=1>(x, z)  y = Conv(c, v)", "c", ("x", "z"), id="concat has both inputs' range"),
        pytest.param("c = Concat<axis=1>(x, z)  y = Conv(c, v)", "z", ("x", "z"), id="so has each input"),
        pytest.param("s = Add(x, z)  y = Conv(s, w)", "s", ("s",), id="a sum has a range of its own"),
        pytest.param(
            "a = Transpose<perm=[0,1,3,2]>(x)  b = Flatten(a)  c = Identity(b)  y = Relu(c)",
            "c",
            ("x",),
            id="through a chain",
        ),
    ],
)
def test_what_is_only_moved_shares_its_range(body, tensor, sources, tmp_path):
    graph = f"(float[N,3,8,8] x, float[N,3,8,8] z) => (float[N,?] y) {{ {body} }}".replace("?", "M")
    assert groups(graph, {"w": (4, 3, 1, 1), "v": (4, 6, 1, 1)}, tmp_path)[tensor] == sources
