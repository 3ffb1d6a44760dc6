import numpy as np
import onnxruntime as ort
import pytest

from quant_core.model.operators import DEFAULT_LAYER_OPS
from quant_core.precision import Precision
from tests.models import build
from tests.quant_core.workbench import bench, distance, same

TIED = """(int64[N,5] ids) => (float[N,5,9] y) {
    e = Gather(table, ids)      r = Relu(e)            [fc] f = MatMul(r, w)
    g = Reshape(f, rows)        h = Gemm<transB=1>(g, table, b)  y = Reshape(h, words)
}"""


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    """An embedding whose table is the weight of the last product, too, quantized in some way."""
    shapes = {"rows": np.array([-1, 32]), "words": np.array([-1, 5, 9])}
    model = build(TIED, {"table": (9, 32), "w": (32, 32), "b": (9,), **shapes})
    folder = tmp_path_factory.mktemp("tied")
    return lambda **config: bench(model, folder, layer_ops=(*DEFAULT_LAYER_OPS, "Gather"), **config)


@pytest.mark.parametrize(
    ("precision", "block"),
    [
        *(("float32w8", block) for block in (None, 16)),
        *(("float32w4", block) for block in (None, 16)),
        *((precision, None) for precision in ("float16w8", "float32wu8", "a8w8", "a16w8")),
    ],
)
@pytest.mark.parametrize("wide", ["float32", "a16w8"])
def test_a_tied_table_is_one_weight_and_ships_what_is_simulated(tied, precision, block, wide):
    made = tied(wide=wide, block_size=block)
    assert made.names == ["Gather_0", "fc"]
    plan = made.plan(*made.names, precision=precision)
    shipped = made.ship(plan)
    assert same(made.simulate(plan), shipped)
    assert same(made.simulate(plan), made.probe([plan])[1])
    assert distance(made.ship(plan, ort.GraphOptimizationLevel.ORT_ENABLE_ALL), shipped) < 1e-3
    tables = [tensor for tensor in made.exported(plan).graph.initializer if list(tensor.dims) == [9, 32]]
    assert [tensor.data_type for tensor in tables] == [
        made.quantizer.weight("Gather_0", plan.precisions[0]).qparams.dtype.onnx_type
    ] or precision == "a8w8"


def test_only_rows_that_are_read_are_dequantized(tied):
    made = tied(wide="float32")
    nodes = made.exported(made.plan("Gather_0", precision="float32w8")).graph.node
    first = [node.op_type for node in nodes][:3]
    assert first == ["Gather", "Gather", "DequantizeLinear"]
    weight = made.quantizer.weight("Gather_0", Precision.parse("float32w8"))
    assert weight.qparams.scale.shape == (9,)


@pytest.mark.parametrize("runtime", ["openvino", "tract", "tvm"])
def test_where_blocks_of_an_open_shape_are_not_taken_the_whole_table_is_dequantized(tied, runtime):
    made = tied(wide="float32", runtime=runtime)
    plan = made.plan("Gather_0", precision="float32w8")
    nodes = made.exported(plan).graph.node
    assert [node.op_type for node in nodes][:3] == ["DequantizeLinear", "Gather", "Relu"]
    assert same(made.simulate(plan), made.ship(plan))


def test_a_gather_of_computed_values_is_no_layer(tmp_path):
    model = build(
        "(float[N,4] x) => (float[N,2] y) { h = Gemm(x, w)  y = Gather<axis=1>(h, at) }",
        {"w": (4, 12), "at": np.array([3, 1])},
    )
    assert bench(model, tmp_path, layer_ops=(*DEFAULT_LAYER_OPS, "Gather")).names == ["Gemm_0"]
