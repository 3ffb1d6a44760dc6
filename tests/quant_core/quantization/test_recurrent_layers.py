"""LSTM, GRU and RNN layers against the float operator on weights that numpy rounds."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from quant_core.calibration.float_pass import observed_tensors
from quant_core.model.edge_types import edge_types
from quant_core.numerics import dequantize, quantize
from quant_core.precision import Precision
from tests.models import build
from tests.quant_core.workbench import bench, distance, same

STEPS, FEATURES, HIDDEN = 5, 20, 4
RECURRENT = {
    "lstm": ("LSTM", 4, ""),
    "lstm, both directions": ("LSTM", 4, ', direction="bidirectional"'),
    "gru": ("GRU", 3, ""),
    "gru, reset first": ("GRU", 3, ", linear_before_reset=1"),
    "rnn": ("RNN", 1, ""),
}


def recurrent(name):
    """A recurrent node between a MatMul and a Gemm; its first state is an input, and its last one an output."""
    op, gates, attributes = RECURRENT[name]
    directions = 2 if "both" in name else 1
    return build(
        f"""(float[{STEPS},N,3] x, float[{directions},N,{HIDDEN}] h0)
            => (float[N,2] y, float[{directions},N,{HIDDEN}] last) {{
            [in] t = MatMul(x, v)
            [rnn] every, last = {op}<hidden_size={HIDDEN}{attributes}>(t, w, u, bias, , h0)
            s = ReduceMean<axes=[0,1], keepdims=0>(every)  [out] y = Gemm(s, v2)
        }}""",
        {
            **{"v": (3, FEATURES), "v2": (HIDDEN, 2), "w": (directions, gates * HIDDEN, FEATURES)},
            **{"u": (directions, gates * HIDDEN, HIDDEN), "bias": (directions, 2 * gates * HIDDEN)},
        },
    )


@pytest.fixture(scope="module", params=RECURRENT)
def made(request, tmp_path_factory):
    """The model, prepared and calibrated, for settings of its own."""
    model, folder = recurrent(request.param), tmp_path_factory.mktemp("made")
    directions = model.graph.input[1].type.tensor_type.shape.dim[0].dim_value
    generator = np.random.default_rng(0)
    feeds = {"x": (STEPS, 4, 3), "h0": (directions, 4, HIDDEN)}
    feeds = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in feeds.items()}
    return lambda **config: bench(model, folder, feeds, **config)


def rounded(values, bits, axis):
    """Values on the symmetric grid of so many bits: one for all, or one for each place along an axis."""
    others = tuple(at for at in range(values.ndim) if at != axis)
    scale = np.abs(values).max(axis=others, keepdims=True) / np.float32(2 ** (bits - 1) - 1)
    return np.rint(values / scale) * scale


def expected(made, precision, axis):
    """What the float model computes on rounded weights and, if they are, rounded activations."""
    wanted, inits = Precision.parse(precision), {tensor.name: tensor for tensor in made.original.graph.initializer}
    changed = onnx.ModelProto()
    changed.CopyFrom(made.original)
    for tensor in changed.graph.initializer:
        if tensor.name in ("w", "u"):
            values = rounded(onnx.numpy_helper.to_array(inits[tensor.name]), wanted.weights.bits, axis)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))
    del changed.graph.node[0]
    changed.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("t", 1, [STEPS, "N", FEATURES]))
    read = made.feeds["x"] @ onnx.numpy_helper.to_array(inits["v"])
    if not wanted.is_weight_only:
        grid = made.quantizer.activation("t", wanted.activations)
        read = dequantize(quantize(read, grid), grid)
    session = ort.InferenceSession(changed.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(["y", "last"], session.run(None, {"t": read, "h0": made.feeds["h0"]}), strict=True))


@pytest.mark.parametrize("precision", ["a16w8", "a8w8", "a8w4", "float32w8"])
@pytest.mark.parametrize("per_channel", [False, True], ids=["one scale", "a scale a row"])
def test_a_recurrent_layer_computes_on_what_it_reads_and_both_weights_rounded(made, precision, per_channel):
    found = made(wide="float32", per_channel=per_channel)
    plan = found.plan("rnn", precision=precision)
    simulated, told = found.simulate(plan), expected(found, precision, 1 if per_channel else None)
    assert distance(simulated, told) < 1e-5
    assert distance(simulated, found.simulate(found.wide)) > 1e-3
    shipped = [found.ship(plan, level) for level in (None, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)]
    assert all(same(simulated, one) for one in shipped)


@pytest.mark.parametrize("precision", ["au8wu8", "float32w4", "a8w4", "a16w16", "float16"])
def test_every_precision_is_probed_simulated_and_shipped_alike(made, precision):
    """Weights with zero points, in blocks, and in floats; beside layers that are wide in 16 bits."""
    found = made(block_size=16)
    plan = found.plan("rnn", precision=precision)
    _, probed = found.probe([plan])
    simulated = found.simulate(plan)
    assert same(probed, simulated) and same(simulated, found.ship(plan))


def test_states_are_float_and_results_carry_what_their_readers_want(made):
    found = made()
    types = edge_types(found.quantizer.topology, found.wide, found.config.wide)
    assert {name: str(kind) for name, kind in types.base.items()} == dict.fromkeys(
        ["x", "t", "every", "s", "y"], "int16"
    )
    assert not {"h0", "last"} & set(observed_tensors(found.quantizer.topology))


def test_costs_are_those_of_both_weights_and_states_count_as_floats(made):
    layer = made().layers[1]
    directions, rows = layer.weight_shapes[0][:2]
    weights, state = directions * rows * (FEATURES + HIDDEN), directions * rows * HIDDEN
    assert (layer.weights, layer.weight_elements) == (("w", "u"), weights)
    assert (layer.macs, layer.state_macs) == (STEPS * weights, STEPS * state)
    assert layer.bit_operations(Precision.parse("a8w8")) == 8 * STEPS * (8 * (weights - state) + 32 * state)


def test_nodes_that_share_one_of_their_weights_are_one_layer(tmp_path):
    """The third node shares one weight with the first, the other with the second; the fourth shares nothing."""
    model = build(
        """(float[4,N,4] x) => (float[4,1,N,4] y) {
            [a] p = RNN<hidden_size=4>(x, w1, u1)  [b] q = RNN<hidden_size=4>(x, w2, u2)
            [c] r = RNN<hidden_size=4>(x, w1, u2)  [d] s = RNN<hidden_size=4>(x, w3, u3)
            t = Add(p, q)  v = Add(r, s)  y = Add(t, v)
        }""",
        dict.fromkeys(("w1", "w2", "w3", "u1", "u2", "u3"), (1, 4, 4)),
    )
    made = bench(model, tmp_path, {"x": np.random.default_rng(0).standard_normal((4, 3, 4)).astype(np.float32)})
    assert [(layer.name, layer.nodes, layer.weights) for layer in made.layers] == [
        ("a", (0, 1, 2), ("w1", "u1", "w2", "u2")),
        ("d", (3,), ("w3", "u3")),
    ]
    plan = made.plan("a")
    assert same(made.simulate(plan), made.ship(plan))


def test_a_model_that_is_one_recurrent_layer_is_calibrated(tmp_path):
    """Nothing that it computes carries a type."""
    model = build(
        "(float[4,N,3] x) => (float[4,1,N,4] y) { [rnn] y = RNN<hidden_size=4>(x, w, u) }",
        {"w": (1, 4, 3), "u": (1, 4, 4)},
    )
    made = bench(model, tmp_path, {"x": np.random.default_rng(0).standard_normal((4, 3, 3)).astype(np.float32)})
    assert made.calibration.column("tensor").to_pylist() == ["x"]
    assert same(made.simulate(made.wide), made.ship(made.wide))
