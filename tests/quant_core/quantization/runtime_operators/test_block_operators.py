import numpy as np
import onnxruntime as ort
import pytest

from quant_core.config import LayerWiseConfig, config_from
from quant_core.errors import InputError
from quant_core.model.sessions import session_options
from quant_core.pipeline.layer_wise import layer_wise
from quant_core.quantization.runtime_operators.block_operators import with_block_operators
from quant_core.runtimes.registry import profile_of
from quant_core.runtimes.written_model import WrittenModel
from tests.models import MODELS, build, samples
from tests.quant_core.workbench import bench, distance, saved


def run(model, feeds, outputs, level=None):
    options = session_options()
    if level is not None:
        options.graph_optimization_level = level
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(outputs, session.run(None, feeds), strict=True))


WIDER = """(float[N,5,40] x) => (float[N,5,8] y) {
    [m] a = MatMul(x, w1)  rows = Reshape(a, two)  [g] b = Gemm(rows, w2, b2)  [t] c = Gemm<transB=1>(b, w3, b3)
    y = Reshape(c, three)
}"""
SHAPES = {"w1": (40, 48), "w2": (48, 33), "b2": (33,), "w3": (8, 33), "b3": (8,)}
SHAPES |= {"two": np.array([-1, 48]), "three": np.array([-1, 5, 8])}


@pytest.mark.parametrize("precision", ["float32w4", "float32w8", "float32wu4", "a16w4"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])
def test_block_operators_compute_what_the_pairs_say(tmp_path, precision, runtime):
    """With inputs that fill no whole number of blocks, biases, and weights in every form."""
    made = bench(build(WIDER, SHAPES), tmp_path, wide=precision, block_size=16, runtime=runtime)
    pairs = made.exported(made.wide)
    changed = with_block_operators(pairs)
    assert [node.name for node in changed.graph.node if node.op_type == "MatMulNBits"] == ["m", "g", "t"]
    expected = run(pairs, made.feeds, made.graph.outputs)
    for level in (None, ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
        assert distance(run(changed, made.feeds, made.graph.outputs, level), expected) < 1e-4
    assert changed.ByteSize() < pairs.ByteSize() + 1024
    assert profile_of("onnxruntime").findings(WrittenModel(changed)) == []


def test_a_run_writes_them_and_tells_what_they_compute(tmp_path):
    model = saved(MODELS["transformer"](), tmp_path)
    feeds = samples(MODELS["transformer"](), 8)
    config = LayerWiseConfig(wide="float32", block_size=16, format="matmulnbits")
    made = layer_wise(
        model, tensors={"float32w4": ["*"]}, calibration=feeds, evaluation=feeds, config=config, output=tmp_path / "out"
    )
    assert made.manifest.deployed.reference["l2"] == pytest.approx(made.manifest.scores.mixed["l2"], rel=1e-3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"block_size": 512}, "in blocks of 16 to 256: give a block_size, or precisions such as float32w4b32"),
        ({"block_size": 32, "runtime": "openvino"}, "is ONNX Runtime's own, not for openvino"),
    ],
)
def test_what_they_need_is_asked_for(options, said):
    with pytest.raises((InputError, ValueError), match=said):
        LayerWiseConfig(format="matmulnbits", **options)


def test_a_search_over_weights_without_blocks_is_refused():
    with pytest.raises(InputError, match="give a block_size, or precisions such as float32w4b32"):
        config_from(target={"metric": "l2", "limit": 1}, wide="float32", narrow=["float32w4"], format="matmulnbits")
