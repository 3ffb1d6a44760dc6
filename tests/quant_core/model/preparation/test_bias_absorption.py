"""Which biases other layers can add, and that what the model computes stays."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from quant_core.execution.machine import Machine
from quant_core.model.graph import FloatGraph
from quant_core.model.operators import DEFAULT_LAYER_OPS
from quant_core.model.preparation.prepare import prepare
from quant_core.model.prepared_model import prepared_graph
from quant_core.storage.references import refer
from tests.models import MODELS, build, samples
from tests.quant_core.workbench import saved


def between(text: str, attributes: str = "", **more) -> onnx.ModelProto:
    """Two layers of four channels, and what is between them."""
    weights = {"w1": (4, 3, 1, 1), "b1": (4,), "w2": (4, 2, 3, 3), "b2": (4,), **more}
    return build(
        f"""(float[N,3,6,6] x) => (float[N,4,M,M] y) {{
            [first] a = Conv(x, w1, b1)  {text}  [last] y = Conv<group=2{attributes}>(r, w2, b2)
        }}""",
        weights,
    )


GEMMS = build(
    """(float[N,3] x) => (float[N,2] y) {
        [first] a = Gemm(x, w1, b1)  [second] b = Gemm<transB=1>(a, w2, b2)  r = Add(a, b)  [last] y = Gemm(r, w3, b3)
    }""",
    {"w1": (3, 4), "b1": (4,), "w2": (4, 4), "b2": (4,), "w3": (4, 2), "b3": (2,)},
)


def graph_of(model: onnx.ModelProto, folder, absorb: bool) -> FloatGraph:
    folder.mkdir(exist_ok=True)
    table = prepare(refer(saved(model, folder)), DEFAULT_LAYER_OPS, Machine(folder / "cache"), absorb_biases=absorb)
    return prepared_graph(table, folder / "cache")


def outputs(graph: FloatGraph, feeds) -> list[np.ndarray]:
    file = next(path for path in graph.folder.glob("*.onnx"))
    return ort.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(None, feeds)


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        pytest.param(between("r = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(a)"), ["last"], id="pool"),
        pytest.param(
            between("[second] b = Conv(x, v, c)  r = Add(a, b)", v=(4, 3, 1, 1), c=(4,)), ["last"], id="sum of layers"
        ),
        pytest.param(GEMMS, ["last"], id="residual of matrices"),
        pytest.param(between("r = Relu(a)"), ["first", "last"], id="activation"),
        pytest.param(
            between("r = MaxPool<kernel_shape=[1,1]>(a)", ", pads=[1,1,1,1]"), ["first", "last"], id="padding"
        ),
    ],
)
def test_a_bias_moves_where_all_that_reads_it_can_add_it(model, kept, tmp_path):
    before, after = (graph_of(model, tmp_path / str(absorb), absorb) for absorb in (False, True))
    assert [node.name for node in after.nodes if node.op_type in ("Conv", "Gemm") and len(node.input) > 2] == kept
    feeds = samples(model, 8)
    for expected, got in zip(outputs(before, feeds), outputs(after, feeds), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_outputs_stay_on_every_shape_of_graph(tmp_path, name):
    model = MODELS[name]()
    feeds = samples(model, model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 3)
    before, after = (graph_of(model, tmp_path / str(absorb), absorb) for absorb in (False, True))
    for expected, got in zip(outputs(before, feeds), outputs(after, feeds), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


def test_a_long_chain_of_additions_is_followed_to_its_end(tmp_path):
    adds = "\n".join(f"a{number} = Add(a{number - 1}, a0)" for number in range(1, 1200))
    model = build(
        f"""(float[N,3,2,2] x) => (float[N,4,2,2] y) {{
            [first] a0 = Conv(x, w1, b1)  {adds}  [last] y = Conv(a1199, w2, b2)
        }}""",
        {"w1": (4, 3, 1, 1), "b1": (4,), "w2": (4, 4, 1, 1), "b2": (4,)},
    )
    assert len(graph_of(model, tmp_path, absorb=True).nodes[0].input) == 2
