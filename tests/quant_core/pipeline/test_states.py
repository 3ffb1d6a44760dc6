"""Models whose states go from step to step: what is told of them is what a loop over the steps gives."""

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
import pytest

from quant_core.calibration.collect import calibrate
from quant_core.config import MixedPrecisionConfig
from quant_core.config.inputs import InputsConfig
from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.model.data.carried_states import step_data
from quant_core.model.graph import FloatGraph
from quant_core.model.operators import DEFAULT_LAYER_OPS
from quant_core.model.preparation.prepare import prepare
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.sessions import open_nodes
from quant_core.model.signature import Signature
from quant_core.model.states import likely_states
from quant_core.pipeline.check import check_file
from quant_core.precision import PrecisionPlan
from quant_core.probing.probe import layer_sensitivity
from quant_core.quantization.plan_graph.qdq import PlanWriter
from quant_core.quantization.recipe import QuantizationRecipe, quantizer_of
from quant_core.scoring.float_outputs import float_outputs, reference_arrays
from quant_core.scoring.sampling import Samples
from quant_core.storage.data import refer_data
from quant_core.storage.references import refer
from tests.models import build
from tests.quant_core.pipeline.test_models_as_they_come import quantized
from tests.quant_core.workbench import saved

GENERATOR = np.random.default_rng(0)


def normal(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


GRU = """(float[N,6] x, float[1,N,8] h) => (float[N,3] y, float[1,N,8] hn) {
    before = Squeeze(h, first)
    xz = MatMul(x, wz)  hz = MatMul(before, uz)  az = Add(xz, hz)  z = Sigmoid(az)
    xn = MatMul(x, wn)  kept = Mul(z, before)  hh = MatMul(kept, un)  an = Add(xn, hh)  n = Tanh(an)
    rest = Sub(one, z)  old = Mul(z, before)  new = Mul(rest, n)  now = Add(old, new)
    y = MatMul(now, v)  hn = Unsqueeze(now, first)
}"""
GRU_WEIGHTS = {"wz": (6, 8), "wn": (6, 8), "uz": (8, 8), "un": (8, 8), "v": (8, 3)}
LSTM = """(float[N,6] x, float[N,8] h, float[N,8] c, float rate) => (float[N,3] y, float[N,8] h_out, float[N,8] c_out) {
    xs = Mul(x, rate)  xh = Concat<axis=1>(xs, h)
    ai = MatMul(xh, wi)  i = Sigmoid(ai)   af = MatMul(xh, wf)  f = Sigmoid(af)
    ao = MatMul(xh, wo)  o = Sigmoid(ao)   ag = MatMul(xh, wg)  g = Tanh(ag)
    fc = Mul(f, c)  ig = Mul(i, g)  c_out = Add(fc, ig)  t = Tanh(c_out)  h_out = Mul(o, t)  y = MatMul(h_out, v)
}"""
LSTM_WEIGHTS = {"wi": (14, 8), "wf": (14, 8), "wo": (14, 8), "wg": (14, 8), "v": (8, 3)}
X, FIRST = normal(12, 5, 6), normal(12, 1, 8)
STATE = {"states": ("h=hn",)}


def gru():
    return build(GRU, {**GRU_WEIGHTS, "one": np.float32(1), "first": np.int64([0])})


def loop(path, x, states, **constants):
    """Outputs of all steps, [samples, steps, values] each, of a file that is run as an application runs it."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    steps = []
    for step in range(x.shape[1]):
        y, *after = session.run(None, {"x": x[:, step], **states, **constants})
        states = dict(zip(states, after, strict=True))
        steps.append([y, *(state.reshape(len(x), -1) for state in after)])
    return [np.stack(output, 1) for output in zip(*steps, strict=True)]


def true_l2(folder, *arguments, **constants):
    exact, got = (loop(folder / name, *arguments, **constants) for name in ("float.onnx", "out/model.onnx"))
    pairs = [(b.astype(np.float64) - a).reshape(len(a), -1) for a, b in zip(exact, got, strict=True)]
    return np.linalg.norm(np.concatenate(pairs, 1), axis=1)


@pytest.mark.parametrize(
    ("data", "first"),
    [
        pytest.param({"x": X}, np.zeros((1, 12, 8), np.float32), id="zeros at first"),
        pytest.param({"x": X, "h": FIRST}, FIRST.transpose(1, 0, 2), id="first states given"),
    ],
)
def test_a_state_is_carried_so_that_errors_add_up(data, first, tmp_path):
    manifest = quantized(gru(), data, tmp_path, **STATE)
    told = true_l2(tmp_path, X, {"h": first})
    assert manifest["scores"]["mixed"]["l2"] == pytest.approx(told.mean(), rel=1e-4)
    alone = true_l2(tmp_path, X[:, :1], {"h": first})
    assert told.mean() > 2 * alone.mean()


def by_hand(x):
    """Outputs and states in front of each step of one sequence, in numpy."""
    weights = {tensor.name: onnx.numpy_helper.to_array(tensor).astype(np.float64) for tensor in gru().graph.initializer}
    h, outputs, states = np.zeros(8), [], []
    for step in x.astype(np.float64):
        states.append(h)
        z = 1 / (1 + np.exp(-(step @ weights["wz"] + h @ weights["uz"])))
        h = z * h + (1 - z) * np.tanh(step @ weights["wn"] + (z * h) @ weights["un"])
        outputs.append(h @ weights["v"])
    return np.array(outputs), np.array(states)


def ragged(folder, *parts):
    """A folder with a file for each length of sequences."""
    folder.mkdir(exist_ok=True)
    for number, x in enumerate(parts):
        np.savez(folder / f"{number}.npz", x=x)
    return folder


PARTS = X[:3, :2], X[3:7]
SEQUENCES = [sequence for part in PARTS for sequence in part]


def test_each_step_is_a_pass_that_begins_with_the_state_of_a_loop_in_numpy(tmp_path):
    machine = Machine(tmp_path / "cache")
    model, data = refer(saved(gru(), tmp_path)), refer_data(ragged(tmp_path / "data", *PARTS), machine.cache)
    layers = prepare(model, DEFAULT_LAYER_OPS, machine, data=data, states=("h=hn",))
    graph = prepared_graph(layers, machine.cache)
    outputs, states = (np.concatenate(found) for found in zip(*map(by_hand, SEQUENCES), strict=True))
    floats = reference_arrays(float_outputs(model, layers, data, "y", None, None, machine))["y"]
    np.testing.assert_allclose(floats.values.reshape(-1, 3), outputs, atol=1e-5)
    steps = step_data(graph, data, machine.cache)
    assert (steps.count, steps.samples) == (26, 7)
    np.testing.assert_array_equal(steps.columns["x"], np.concatenate(SEQUENCES))
    np.testing.assert_allclose(steps.columns["h"][:, 0], states, atol=1e-5)
    calibration = calibrate(layers, data, None, machine)
    counts = dict(zip(*(calibration.column(name).to_pylist() for name in ("tensor", "count")), strict=True))
    assert counts["x"] == 26 * 6

    config = MixedPrecisionConfig(target={"metric": "l2", "limit": 1.0}, wide="float32", narrow=["a8w8"]).quantization()
    recipe, names = QuantizationRecipe(layers, calibration, config), layers.column("layer").to_pylist()
    start, samples = dict.fromkeys(names, "float32"), Samples(data, 0, 7)
    writer = PlanWriter(quantizer_of(recipe, machine), folded=True)
    narrowed = writer.write(PrecisionPlan.from_dict({**start, names[0]: "a8w8"})).nodes
    feeds = {"x": steps.columns["x"], "h": steps.columns["h"][:, 0][None]}
    exact, got = (open_nodes(graph, nodes, ["y", "hn"], writer.constants)(feeds) for nodes in (graph.nodes, narrowed))
    squares = [np.square(got[name] - exact[name]).reshape(26, -1) for name in ("y", "hn")]
    powers = [Signature.of(graph).output(name).power for name in ("y", "hn")]
    weighed = np.concatenate([square / power for square, power in zip(squares, powers, strict=True)], 1)
    baseline = float_outputs(model, layers, data, "y", None, None, machine)
    for loss, size, floats, errors, of_sequence in (
        ("l2-float", None, baseline, squares[0], lambda square: np.sqrt(square.sum())),
        ("mse", 3, None, weighed, np.mean),
    ):
        found = layer_sensitivity(recipe, samples, names[:1], "a8w8", start, loss, "y", size, machine, floats)
        true = [of_sequence(part) for part in np.split(errors, steps.starts[1:-1])]
        np.testing.assert_allclose(found.column("losses")[0].as_py(), true, rtol=0.02)


def test_sequences_of_two_lengths_count_as_a_loop_over_each_has_them(tmp_path):
    data = ragged(tmp_path / "data", *PARTS)
    manifest = quantized(gru(), data, tmp_path, limit=43.0, batch_size=2, **STATE)
    true = [true_l2(tmp_path, x, {"h": np.zeros((1, len(x), 8), np.float32)}) for x in PARTS]
    assert manifest["scores"]["mixed"]["l2"] == pytest.approx(np.concatenate(true).mean(), rel=1e-4)
    assert manifest["work"]["probes"]


@pytest.mark.parametrize("batch", ["N", "1"])
def test_two_states_beside_a_constant(batch, tmp_path):
    model = build(LSTM.replace("N", batch), LSTM_WEIGHTS)
    labels = GENERATOR.integers(0, 3, (12, 5))
    common = {"metric": "top1_drop", "limit": 0.9, "labels": labels, "fix_inputs": ("rate=2",)}
    manifest = quantized(model, {"x": X}, tmp_path, states=("h=h_out", "c=c_out"), **common)
    zeros = np.zeros((12, 8), np.float32)
    parts = [slice(None)] if batch == "N" else [slice(row, row + 1) for row in range(12)]
    true = [true_l2(tmp_path, X[at], {"h": zeros[at], "c": zeros[at]}, rate=np.array(2, np.float32)) for at in parts]
    assert manifest["scores"]["mixed"]["l2"] == pytest.approx(np.concatenate(true).mean(), rel=1e-4)
    shipped = [loop(tmp_path / "out/model.onnx", X[at], {"h": zeros[at], "c": zeros[at]})[0] for at in parts]
    right = np.concatenate(shipped).argmax(2) == labels
    assert manifest["scores"]["mixed"]["top1"] == pytest.approx(right.mean())


def padded(folder, width):
    """Sequences of 2 and of 5 steps, with labels that are padded behind."""
    ragged(folder, *PARTS)
    for number, x in enumerate(PARTS):
        labels = np.pad(np.zeros(x.shape[:2], int), ((0, 0), (0, max(width - x.shape[1], 0))), constant_values=2)
        np.savez(folder / f"{number}.npz", x=x, labels=labels[:, :width])
    return folder


def test_labels_of_sequences_are_padded_behind(tmp_path):
    data = padded(tmp_path / "data", 6)
    manifest = quantized(gru(), data, tmp_path, metric="top1_drop", limit=0.9, output="y", **STATE)
    steps = [loop(tmp_path / "out/model.onnx", x, {"h": np.zeros((1, len(x), 8), np.float32)})[0] for x in PARTS]
    right = np.concatenate([(outputs.argmax(2) == 0).mean(1) for outputs in steps])
    assert manifest["scores"]["mixed"]["top1"] == pytest.approx(right.mean())
    with pytest.raises(InputError, match="labels are of 4 steps, and sample 3 has 5"):
        quantized(gru(), padded(tmp_path / "short", 4), tmp_path, metric="top1_drop", limit=0.9, **STATE)


def test_a_layer_that_reaches_what_is_compared_one_step_later_is_ranked_by_the_state(tmp_path):
    body = """(float[N,6] x, float[N,8] h) => (float[N,3] y, float[N,8] hn) {
        y = MatMul(h, v)  a = MatMul(x, w)  s = Add(a, h)  hn = Tanh(s)
    }"""
    quantized(build(body, {"w": (6, 8), "v": (8, 3)}), {"x": X}, tmp_path, limit=45.0, output="y", **STATE)
    found = pa.ipc.open_file(tmp_path / "out/sensitivity.arrow").read_all()
    assert min(found.column("loss").to_pylist()) > 0 and found.num_rows == 2


def test_a_file_is_checked_step_by_step(tmp_path):
    manifest = quantized(gru(), {"x": X}, tmp_path, **STATE)
    found = check_file(
        tmp_path / "out/model.onnx", "reference", {"x": X}, tmp_path / "float.onnx", said=InputsConfig(states=("h=hn",))
    )
    assert found.reference["l2"] == pytest.approx(manifest["scores"]["mixed"]["l2"], rel=1e-3)


def test_random_sequences_have_the_steps_that_are_said(tmp_path):
    assert quantized(gru(), "random", tmp_path, random_samples=8, random_sizes=("steps=3",), **STATE)


@pytest.mark.parametrize(
    ("data", "options", "line"),
    [
        ({"x": X}, {"states": ("hh=hn",)}, "the model has no input 'hh'; did you mean 'h'?"),
        ({"x": X}, {"states": ("h=z",)}, "the model has no output 'z'; it has y, hn"),
        ({"x": X}, {"states": ("h",)}, "states: 'h' must be INPUT=OUTPUT"),
        ({"x": X}, {"states": ("h=y",)}, r"y has shape \[any, 3\] and h \[1, any, 8\]; a state keeps its shape"),
        ({"x": X}, {}, "if it is a state that hn gives for the next step, add --state h=hn"),
        ({"x": X[:, 0]}, STATE, r"x has shape \[12, 6\]; .*a sample is a sequence of steps: \[N, steps, 6\]"),
        ({"x": X, "h": FIRST[:11]}, STATE, r"h has shape \[11, 1, 8\], the model wants \[1, N, 8\]"),
        ({"x": X, "labels": np.zeros(12, int)}, {**STATE, "metric": "top1_drop"}, r"wants \[N, any\], one a step"),
        ("random", STATE, "give the steps of a sample with --random-sizes steps=NUMBER"),
    ],
)
def test_what_cannot_be_carried_is_refused_in_a_line(data, options, line, tmp_path):
    with pytest.raises(InputError, match=line):
        quantized(gru(), data, tmp_path, **options)


def test_inputs_with_as_many_steps_each(tmp_path):
    body = "(float[N,6] x, float[N,6] u, float[N,8] h) => (float[N,8] hn) { s = Add(x, u) a = MatMul(s, w) hn = Add(a, h) }"
    with pytest.raises(InputError, match="in sample 0 x has 5 steps and u 4; each step"):
        quantized(build(body, {"w": (6, 8)}), {"x": X, "u": X[:, :4]}, tmp_path, **STATE)


@pytest.mark.parametrize(
    ("names", "likely"),
    [
        (("h", "hn"), True),
        (("state", "stateN"), True),
        (("h0", "h_out"), True),
        (("prev_hidden", "new_hidden"), True),
        (("hidden_in", "hidden_out"), True),
        (("h", "y"), False),
        (("a1", "b1"), False),
    ],
)
def test_names_that_show_a_state(names, likely, tmp_path):
    before, after = names
    body = f"(float[N,3] x, float[N,3] {before}) => (float[N,3] {after}) {{ {after} = Add(x, {before}) }}"
    assert likely_states(FloatGraph(build(body), tmp_path)) == ({before: after} if likely else {})
