"""A tensor inside that is compared as an output is: what is told of it, and what is shipped."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from quant_core.errors import InputError
from quant_core.execution.progress import Watcher, watched_by
from tests.models import build
from tests.quant_core.pipeline.test_models_as_they_come import quantized

DETECTOR = """(float[1,3,8,8] x) => (float[K,4] dets, int64[K,3] sel) {
    [stem] c = Conv<pads=[1,1,1,1]>(x, w)  n = BatchNormalization(c, ones, zeros, zeros, ones)  same = Identity(n)
    r = Relu(same)
    [box] b = Conv(r, wb)  bx = Reshape(b, flat)   boxes = Transpose<perm=[0,2,1]>(bx)
    [cls] s = Conv(r, wc)  p = Sigmoid(s)          scores = Reshape(p, flat)
    sel = NonMaxSuppression(boxes, scores, most, half, half)
    at = Gather<axis=1>(sel, two)  all = Gather<axis=0>(boxes, first)  dets = Gather<axis=0>(all, at)
}"""
WEIGHTS = {
    **{"w": (4, 3, 3, 3), "wb": (4, 4, 1, 1), "wc": (2, 4, 1, 1), "ones": np.ones(4, "f4"), "zeros": np.zeros(4, "f4")},
    **{"flat": np.int64([0, 0, -1]), "most": np.int64([20]), "half": np.float32([0.5])},
    **{"two": np.int64(2), "first": np.int64(0)},
}
X = np.random.default_rng(0).standard_normal((12, 3, 8, 8)).astype(np.float32)


class Lines(Watcher):
    def __init__(self):
        self.lines = []

    def warned(self, message):
        self.lines.append(message)

    noted = warned


def values(path, name):
    """A tensor inside a file, for each sample, with optimisations off."""
    model = onnx.load(path)
    model.graph.output.append(onnx.ValueInfoProto(name=name))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.array([session.run([name], {"x": x[None]})[0].ravel() for x in X], np.float64)


@pytest.mark.parametrize(
    ("said", "names", "unseen"),
    [("boxes", ["boxes"], "cls"), ("boxes,scores", ["boxes", "scores"], ""), ("same", ["n"], "box, cls")],
    ids=["in front of what chooses by values", "two of them", "by a name that is gone when the model is prepared"],
)
def test_it_is_scored_as_it_is_in_the_file_which_does_not_give_it(said, names, unseen, tmp_path):
    watcher = Lines()
    with watched_by(watcher):
        manifest = quantized(build(DETECTOR, WEIGHTS), {"x": X}, tmp_path, limit=40.0, output=said)
    exact, got = (
        np.concatenate([values(tmp_path / file, name) for name in listed], axis=1)
        for file, listed in (("float.onnx", said.split(",")), ("out/model.onnx", names))
    )
    true = np.linalg.norm(got - exact, axis=1).mean()
    assert manifest["scores"]["mixed"]["l2"] == pytest.approx(true, rel=1e-4)
    shipped = onnx.load(tmp_path / "out/model.onnx")
    assert [value.name for value in shipped.graph.output] == ["dets", "sel"]
    kept = f"; layers that reach no other output stay wide: {unseen}" if unseen else ""
    assert f"not compared: dets, sel{kept}" in watcher.lines
    told = f"inside the model: {', '.join(names)}. The score in onnxruntime"
    assert any(line.startswith(told) for line in watcher.lines)


@pytest.mark.parametrize(
    ("output", "options", "line"),
    [
        ("all", {}, "changes from sample to sample .*inside, .*: --output boxes,scores"),
        ("sel", {}, "changes from sample to sample .*inside, .*: --output boxes,scores"),
        ("boxs", {}, "outputs 0: dets, 1: sel, and no tensor inside of that name; did you mean 'boxes' or"),
        ("x", {}, "no tensor inside of that name"),
        ("at", {}, "'at' is a tensor of type int64; inside the model only float ones"),
        ("c", {}, "'c': the nodes around .* folded into one .*; compare 'n' behind it, or .*--no-optimize"),
        ("r", {"equalize": True}, "equalize scales tensors inside"),
        ("r", {"format": "qoperator", "wide": "float32", "narrow": ["au8w8"]}, "where qoperator merges nodes; use qdq"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_way_out(output, options, line, tmp_path):
    with pytest.raises(InputError, match=line):
        quantized(build(DETECTOR, WEIGHTS), {"x": X}, tmp_path, output=output, **options)
