import numpy as np
import onnx
import onnxruntime as ort
import pytest

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.errors import InputError
from quant_core.quantization.runtime_operators.block_operators import with_block_operators
from quant_core.quantization.runtime_operators.recurrent_operators import with_dynamic_lstms
from quant_core.runtimes.layer_precisions import stored_layers
from quant_core.runtimes.registry import profile_of
from quant_core.runtimes.slower_layers import slower_layer
from quant_core.runtimes.written_model import WrittenModel
from tests.models import build
from tests.quant_core.quantization.runtime_operators.test_block_operators import run
from tests.quant_core.workbench import bench, distance, saved

SPEECH = """(float[N,3,12] x, float[2,N,6] h0, float[2,N,6] c0) => (float[N,2] y, float[2,N,6] h, float[2,N,6] c) {
    [conv] a = Conv<pads=[1,1]>(x, w1, b1)  r = Relu(a)  t = Transpose<perm=[2,0,1]>(r)
    [lstm] every, h, c = LSTM<hidden_size=6, direction="bidirectional">(t, w, u, bias, , h0, c0)
    [gru] both, last = GRU<hidden_size=6>(t, gw, gu)
    s = ReduceMean<axes=[0,1], keepdims=0>(every)  q = Squeeze(last, first)  m = Add(s, q)
    [fc] y = MatMul(m, w2)
}"""
SHAPES = {"w1": (8, 3, 3), "b1": (8,), "w": (2, 24, 8), "u": (2, 24, 6), "bias": (2, 48), "w2": (6, 2)}
SHAPES |= {"gw": (1, 18, 8), "gu": (1, 18, 6), "first": np.array([0])}


def speech():
    """A convolution, an LSTM in both directions and a GRU on what it writes, and a product."""
    return build(SPEECH, SHAPES)


def frames(count):
    generator = np.random.default_rng(0)
    shapes = {"x": (count, 3, 12), "h0": (2, count, 6), "c0": (2, count, 6)}
    return {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("per_channel", [False, True], ids=["one scale", "a scale a row"])
@pytest.mark.parametrize("precision", ["a8w8", "au8w8"])
def test_an_lstm_of_8_bits_becomes_the_operator_and_computes_about_what_its_pairs_say(tmp_path, per_channel, precision):
    made = bench(speech(), tmp_path, frames(4), per_channel=per_channel)
    pairs = made.exported(made.plan("lstm", "gru", precision=precision))
    expected = run(pairs, made.feeds, made.graph.outputs)
    for keeps, kind in ((False, "int8"), (True, "uint8")):
        changed = with_dynamic_lstms(pairs, keeps)
        onnx.checker.check_model(changed)
        [node] = [node for node in changed.graph.node if node.op_type == "DynamicQuantizeLSTM"]
        codes = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in changed.graph.initializer}
        assert (node.name, str(codes[node.input[1]].dtype), codes[node.input[2]].shape) == ("lstm", kind, (2, 6, 24))
        found = run(changed, made.feeds, made.graph.outputs, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
        assert distance(found, expected) < 0.15
        assert profile_of("onnxruntime").findings(WrittenModel(changed)) == [] or not keeps


def test_what_the_operator_does_not_compute_keeps_its_pairs(tmp_path):
    made = bench(speech(), tmp_path, frames(4), block_size=16)
    for precision in ("a16w8", "float32w8", "a8w4"):
        pairs = made.exported(made.plan("lstm", precision=precision))
        assert with_dynamic_lstms(pairs, False) == pairs
        assert [node for node in with_block_operators(pairs).graph.node if "LSTM" in node.op_type] == [
            node for node in pairs.graph.node if node.op_type == "LSTM"
        ]


@pytest.mark.parametrize("form", ["qdq", "dynamiclstm"])
def test_a_run_narrows_recurrent_layers_among_others_and_tells_the_score_of_its_file(tmp_path, form):
    config = config_from(target={"metric": "sqnr_db", "limit": 15.0}, format=form)
    arrays, path = frames(24), saved(speech(), tmp_path)
    made = auto_mixed_precision(path, calibration=arrays, evaluation=arrays, config=config, output=tmp_path / "out")
    assert {layer: made.manifest.plan[layer] for layer in ("conv", "lstm", "gru", "fc")} == made.manifest.plan
    assert made.manifest.plan["lstm"] == "a8w8"
    floats, found = (run(onnx.load(file), arrays, ["y", "h", "c"]) for file in (path, tmp_path / "out/model.onnx"))
    told = min(10 * np.log10((floats[n] ** 2).sum() / ((floats[n] - found[n]) ** 2).sum()) for n in floats)
    assert made.manifest.scores.mixed["sqnr_db"] == pytest.approx(told, abs=0.01)
    runs = {one.layer: one.runs_as for one in made.manifest.deployed.layers}
    assert runs["lstm"] == ("DynamicQuantizeLSTM" if form == "dynamiclstm" else "LSTM") and runs["gru"] == "GRU"
    assert "LSTM stays" not in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"runtime": "openvino"}, "is ONNX Runtime's own, not for openvino"),
        ({"layer_ops": ("Conv",)}, "is for LSTM layers"),
        ({"narrow": ("a16w4",)}, "is for layers of 8 bits"),
        ({"cost": "latency"}, "is not what the cost latency times"),
    ],
)
def test_what_the_operator_is_for_is_asked_for(options, said):
    with pytest.raises((InputError, ValueError), match=said):
        config_from(target={"metric": "l2", "limit": 1.0}, format="dynamiclstm", **options)


def test_a_recurrent_layer_is_slower_than_in_float_unless_it_is_the_operator(tmp_path):
    made = bench(speech(), tmp_path, frames(4))
    told = {form: [slower_layer(made.graph, layer, form) for layer in made.layers] for form in ("qdq", "dynamiclstm")}
    conv = "a Conv of 3 to 8 channels"
    assert told["qdq"] == [conv, "an LSTM between pairs", "a GRU between pairs", ""]
    assert told["dynamiclstm"] == [conv, "", "a GRU between pairs", ""]


def test_precisions_of_recurrent_layers_are_read_from_files_of_both_forms(tmp_path):
    made = bench(speech(), tmp_path, frames(4))
    pairs = made.exported(made.plan("lstm", precision="au8w8"))
    for file in (pairs, with_dynamic_lstms(pairs, False)):
        found = {layer.name: layer.precision for layer in stored_layers(WrittenModel(file))}
        assert found == {"conv": "a16w8", "lstm": "au8w8", "gru": "a16w8", "fc": "a16w8"}
