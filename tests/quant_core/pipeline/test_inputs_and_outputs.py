"""What a run takes inputs and outputs for: axes, constants, states, classes, each with its right score."""

import numpy as np
import pyarrow as pa
import pytest

from quant_core.errors import InputError
from quant_core.execution.progress import Watcher, watched_by
from tests.models import build
from tests.quant_core.pipeline.test_models_as_they_come import outputs, quantized, sqnr

GENERATOR = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_numbers():
    """Let each test have the numbers that it has alone."""
    GENERATOR.bit_generator.state = np.random.default_rng(1).bit_generator.state


def normal(*shape):
    return GENERATOR.standard_normal(shape).astype(np.float32)


def true_l2(folder, arrays, axis=0, number=0):
    """Mean L2 distance of float and shipped model, samples along an axis, computed with optimisations off."""
    exact, got = (outputs(folder / name, arrays)[number] for name in ("float.onnx", "out/model.onnx"))
    difference = np.moveaxis(exact.astype(np.float64) - got, axis, 0)
    return np.linalg.norm(difference.reshape(len(difference), -1), axis=1).mean()


STATE = """(float[batch,8] x, float[2,batch,16] state{more}) => (float[batch,4] y) {{
    a = MatMul(x, w)  s0 = Gather(state, zero)  s1 = Gather(state, one)
    b = Add(a, s0)  c = Tanh(b)  d = Mul(c, s1)  {last}
}}"""
WEIGHTS = {"w": (8, 16), "v": (16, 4), "zero": np.int64(0), "one": np.int64(1)}
PLAIN = STATE.format(more="", last="y = MatMul(d, v)")
SCALED = STATE.format(more=", int64 rate", last="e = MatMul(d, v)  r = Cast<to=1>(rate)  y = Mul(e, r)")
X, S = normal(32, 8), normal(32, 2, 16) * np.float32([[[0.1]], [[5]]][:1])
MODELS_OWN = {"x": X, "state": np.ascontiguousarray(S.transpose(1, 0, 2))}


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(S, id="one entry a sample"),
        pytest.param(S[:, :, None], id="each a batch of one"),
        pytest.param(S.transpose(1, 0, 2), id="along the model's own axis"),
    ],
)
def test_samples_of_a_state_are_along_the_axis_that_its_symbol_says(state, tmp_path):
    manifest = quantized(build(PLAIN, WEIGHTS), {"x": X, "state": np.ascontiguousarray(state)}, tmp_path)
    assert manifest["scores"]["mixed"]["l2"] == pytest.approx(true_l2(tmp_path, MODELS_OWN), rel=1e-4)


def test_a_state_of_the_wrong_shape_is_refused_with_its_axis(tmp_path):
    with pytest.raises(InputError, match=r"state has shape \[32, 1, 16\], the model wants \[2, N, 16\]: .*axis 1"):
        quantized(build(PLAIN, WEIGHTS), {"x": X, "state": S[:, :1]}, tmp_path)


@pytest.mark.parametrize("rate", [np.int64(3), np.full(32, 3)], ids=["a scalar", "the same for each sample"])
def test_a_scalar_input_is_a_constant(rate, tmp_path):
    model = build(SCALED, WEIGHTS)
    manifest = quantized(model, {"x": X, "state": S, "rate": np.asarray(rate)}, tmp_path)
    true = true_l2(tmp_path, {**MODELS_OWN, "rate": np.int64(3)})
    assert manifest["scores"]["mixed"]["l2"] == pytest.approx(true, rel=1e-4)


def test_a_scalar_that_differs_is_refused_with_a_way_out(tmp_path):
    with pytest.raises(InputError, match="rate has different values for samples.*--set rate=VALUE"):
        quantized(build(SCALED, WEIGHTS), {"x": X, "state": S, "rate": np.arange(32)}, tmp_path)


def test_an_input_can_be_fixed_and_still_be_fed(tmp_path):
    manifest = quantized(build(SCALED, WEIGHTS), {"x": X, "state": S}, tmp_path, fix_inputs=("rate=3",))
    fed = {**MODELS_OWN, "rate": np.int64(3)}
    assert manifest["scores"]["mixed"]["l2"] == pytest.approx(true_l2(tmp_path, fed), rel=1e-4)


DECIDED_BY_A_SIZE = """
    (float[n,3,8] x, float[2,n,3,8] state, int64 sr) => (float[n,4,6] y) {
        c = Equal(sr, k)
        y = If (c) <then_branch = g1 () => (float[n,4,6] o1) {
            sizes = Shape(state)  size = Gather(sizes, zero)  known = Cast<to=9>(size)
            o1 = If (known) <then_branch = g3 () => (float[n,4,6] o3) { o3 = Conv(x, w) },
                             else_branch = g4 () => (float[n,4,6] o4) { p = Conv(x, w)  o4 = Exp(p) }>
        }, else_branch = g2 () => (float[n,4,6] o2) { t = Conv(x, w)  o2 = Neg(t) }>
    }"""


def test_a_branch_that_a_declared_size_decides_is_freed_inside_of_one_that_is_fixed(tmp_path):
    model = build(DECIDED_BY_A_SIZE, {"w": (4, 3, 3), "k": np.int64(16000), "zero": np.int64(0)})
    arrays = {"x": normal(16, 3, 8), "state": normal(16, 2, 3, 8)}
    manifest = quantized(model, arrays, tmp_path, fix_inputs=("sr=16000",))
    assert (manifest["narrowed"]["of"], manifest["narrowed"]["others"]) == (1, [])
    fed = {"x": arrays["x"], "state": np.ascontiguousarray(arrays["state"].swapaxes(0, 1)), "sr": np.int64(16000)}
    assert true_l2(tmp_path, fed) == pytest.approx(manifest["scores"]["mixed"]["l2"], rel=1e-4)


def test_layers_in_a_branch_are_freed_by_fixing_what_chooses_it(tmp_path):
    model = build(
        """(float[n,3,8] x, int64 sr) => (float[n,4,6] y) {
            c = Equal(sr, k)
            y = If (c) <then_branch = g1 () => (float[n,4,6] o1) { o1 = Conv(x, w) },
                        else_branch = g2 () => (float[n,4,6] o2) { t = Conv(x, w)  o2 = Neg(t) }>
        }""",
        {"w": (4, 3, 3), "k": np.int64(16000)},
    )
    arrays = {"x": normal(16, 3, 8)}
    with pytest.raises(InputError, match=r"bodies of If, Loop or Scan: 2 in .*--set NAME=VALUE"):
        quantized(model, {**arrays, "sr": np.int64(16000)}, tmp_path)
    manifest = quantized(model, arrays, tmp_path, fix_inputs=("sr=16000",))
    assert manifest["narrowed"]["of"] == 1
    assert true_l2(tmp_path, {**arrays, "sr": np.int64(16000)}) == pytest.approx(
        manifest["scores"]["mixed"]["l2"], rel=1e-4
    )


TIME = "(float[N,7,8] x) => (float[{shape}] y) {{ l = MatMul(x, w)  {last} }}"


@pytest.mark.parametrize(
    ("shape", "last", "classes"),
    [
        pytest.param("N,7,12", "y = Softmax<axis=2>(l)", 2, id="probabilities of each step"),
        pytest.param("N,7,12", "y = Identity(l)", 2, id="logits of each step"),
        pytest.param("7,N,12", "t = Transpose<perm=[1,0,2]>(l)  y = Softmax<axis=2>(t)", 2, id="time first"),
        pytest.param("N,12,7", "y = Transpose<perm=[0,2,1]>(l)", 1, id="logits, classes on axis 1"),
    ],
)
def test_kl_and_top1_are_over_the_classes(shape, last, classes, tmp_path):
    model = build(TIME.format(shape=shape, last=last), {"w": (8, 12)})
    arrays = {"x": 3 * normal(21, 7, 8)}  # three times as many samples as steps
    exact = outputs(model.SerializeToString(), arrays)[0]
    by_sample = exact.swapaxes(0, 1) if shape.startswith("7") else exact
    labels = by_sample.argmax(axis=classes)
    manifest = quantized(model, arrays, tmp_path, "kl", 10.0, labels)
    assert manifest["scores"]["float"]["top1"] == 1
    got = outputs(tmp_path / "out/model.onnx", arrays)[0]
    p, q = (np.moveaxis(array.astype(np.float64), classes, -1) for array in (exact, got))
    if "Softmax" not in last:
        p, q = (np.exp(array) / np.exp(array).sum(-1, keepdims=True) for array in (p, q))
    true = (p * (np.log(np.maximum(p, 1e-30)) - np.log(np.maximum(q, 1e-30)))).sum(-1).mean()
    assert manifest["scores"]["mixed"]["kl"] == pytest.approx(true, rel=0.02)
    axis = 1 if shape.startswith("7") else 0
    assert manifest["scores"]["mixed"]["l2"] == pytest.approx(true_l2(tmp_path, arrays, axis), rel=1e-4)


HIDDEN = "(float[N,7,8] x) => (float[N,7,12] y) { l = MatMul(x, w)  s = Sin(l)  y = Add(s, l) }"


@pytest.mark.parametrize(
    ("metric", "needs", "options"),
    [("kl", "a KL target", {}), ("top1_drop", "a top-1 target", {}), ("l2", "--rank kl", {"rank": "kl"})],
)
def test_an_axis_of_classes_that_does_not_show_is_asked_for(metric, needs, options, tmp_path):
    model, arrays = build(HIDDEN.replace("y = Add(s, l)", "y = Sin(s)"), {"w": (8, 12)}), {"x": normal(16, 7, 8)}
    labels = outputs(model.SerializeToString(), arrays)[0].argmax(axis=2)
    with pytest.raises(InputError, match=rf"{needs} needs the axis .*'y' \(shape \[.*7, 12\]\).*--classes y=AXIS"):
        quantized(model, arrays, tmp_path, metric, 10.0, labels, **options)
    found = quantized(model, arrays, tmp_path, metric, 10.0, labels, classes=("y=2",), **options)
    assert found["scores"]["float"]["top1"] == 1


def test_what_is_over_classes_is_not_measured_where_their_axis_does_not_show(tmp_path):
    model = build(HIDDEN.replace("y = Add(s, l)", "y = Sin(s)"), {"w": (8, 12)})
    scores = quantized(model, {"x": normal(16, 7, 8)}, tmp_path)["scores"]["mixed"]
    assert scores["kl"] is None and scores["top1"] is None if "kl" in scores else "top1" not in scores


def test_classes_are_of_the_output_that_the_user_says(tmp_path):
    model = build(
        "(float[N,8] x) => (float[N,4] boxes, float[N,5,6] scores) { "
        "boxes = MatMul(x, a)  l = MatMul(x, b)  s = Sin(l)  scores = Reshape(s, shape) }",
        {"a": (8, 4), "b": (8, 30), "shape": np.int64([0, 5, 6])},
    )
    arrays = {"x": normal(16, 8)}
    labels = outputs(model.SerializeToString(), arrays)[1].argmax(axis=2)
    manifest = quantized(model, arrays, tmp_path, "top1_drop", 0.5, labels, classes=("scores=2",))
    assert manifest["scores"]["float"]["top1"] == 1


NANS = build(
    "(float[N,6] x) => (float[N,4] y, float[N,4] z) { a = MatMul(x, w)  y = MatMul(a, v)  b = MatMul(a, u)  z = Sqrt(b) }",
    {"w": (6, 6), "v": (6, 4), "u": (6, 4)},
)


def test_a_nan_in_an_output_that_nobody_compares_is_only_told(tmp_path):
    arrays, heard = {"x": normal(16, 6)}, Heard()
    with watched_by(heard):
        manifest = quantized(NANS, arrays, tmp_path, output="y")
    assert manifest["scores"]["mixed"]["l2"] == pytest.approx(true_l2(tmp_path, arrays), rel=1e-4)
    assert any("computes a NaN in z: not compared" in warning for warning in heard.warnings)


def test_a_nan_in_an_output_that_is_compared_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match=r"computes a NaN in tensor 'z' \(samples 0 to 15 of the calibration data\)"):
        quantized(NANS, {"x": normal(16, 6)}, tmp_path)


def test_weights_beyond_what_counts_as_infinite_are_weights(tmp_path):
    model = build(
        "(float[N,6] x) => (float[N,4] y) { a = MatMul(x, w)  b = Mul(a, s)  y = MatMul(b, v) }",
        {"w": normal(6, 6) * np.float32(1e31), "v": (6, 4), "s": np.float32(1e-31)},
    )
    arrays = {"x": normal(16, 6)}
    manifest = quantized(model, arrays, tmp_path)
    assert manifest["scores"]["mixed"]["sqnr_db"] > 30
    assert manifest["scores"]["mixed"]["l2"] == pytest.approx(true_l2(tmp_path, arrays), rel=1e-4)


class Heard(Watcher):
    """Keeps warnings."""

    def __init__(self):
        self.warnings = []

    def warned(self, message):
        self.warnings.append(message)


def test_labels_that_the_target_does_not_use_do_not_matter(tmp_path):
    model = build(TIME.format(shape="N,7,12", last="y = Identity(l)"), {"w": (8, 12)})
    manifest = quantized(model, {"x": normal(16, 7, 8)}, tmp_path, labels=np.arange(16))
    assert "top1" not in manifest["scores"]["float"] or manifest["scores"]["float"]["top1"] is None


BAKED = "(float[batch,5,8] x) => (float[batch,5,4] y) {{ a = MatMul(x, w)  v = Reshape(a, b)  {} }}"
MIXED = "h = MatMul(v, u)  g = ReduceMax<axes=[1]>(h)  d = Sub(h, g)  "


@pytest.mark.parametrize(
    ("baked", "last"),
    [
        pytest.param([1, 5, 12], MIXED + "y = MatMul(d, z)", id="larger batches fail"),
        pytest.param([1, -1, 12], MIXED + "y = MatMul(d, z)", id="larger batches are taken for one sample"),
        pytest.param([1, -1, 12], MIXED + "o = MatMul(d, z)  y = Reshape(o, again)", id="samples are mixed"),
    ],
)
def test_a_model_with_a_batch_baked_in_runs_one_sample_at_a_time(baked, last, tmp_path):
    model = build(
        BAKED.format(last),
        {"w": (8, 12), "u": (12, 10), "z": (10, 4), "b": np.int64(baked), "again": np.int64([-1, 5, 4])},
    )
    arrays = {"x": normal(12, 5, 8)}
    manifest = quantized(model, arrays, tmp_path)
    alone = [true_l2(tmp_path, {"x": arrays["x"][at : at + 1]}) for at in range(12)]
    assert manifest["scores"]["mixed"]["l2"] == pytest.approx(np.mean(alone), rel=1e-4)


RAGGED = build("(float[N,T,8] x) => (float[N,4] y) { a = MatMul(x, w)  r = Relu(a)  y = ReduceMax<axes=[1], keepdims=0>(r) }", {"w": (8, 4)})  # fmt: skip
SAMPLES = [normal(1, 3 + number % 4, 8) for number in range(12)]


def in_folder(folder, samples):
    folder.mkdir()
    for number, sample in enumerate(samples):
        np.savez(folder / f"{number:02d}.npz", x=sample)
    return folder


def in_lists(path, samples):
    table = pa.table({"x": pa.array([sample[0].tolist() for sample in samples], pa.list_(pa.list_(pa.float32())))})
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    return path


@pytest.mark.parametrize("form", ["a file a sample", "lists"])
def test_samples_of_different_shape(form, tmp_path):
    def l2(samples, name):
        folder = tmp_path / name
        folder.mkdir()
        data = in_folder(folder / "d", samples) if form != "lists" else in_lists(folder / "d.arrow", samples)
        manifest = quantized(RAGGED, str(data), folder)
        alone = [true_l2(folder, {"x": sample}) for sample in samples]
        assert manifest["scores"]["mixed"]["l2"] == pytest.approx(np.mean(alone), rel=1e-4)
        return manifest["scores"]["mixed"]["l2"]

    assert l2(SAMPLES, "forward") == pytest.approx(l2(SAMPLES[::-1], "backward"), rel=1e-9)


HEADS = build(
    """(float[N,3,6,6] x) => (float[N,4,6,6] boxes, float[N,6,6,6] scores) {
        c = Conv(x, w)  r = Relu(c)  [box] boxes = Conv(r, a)  m = Conv(r, b)  k = Relu(m)  [cls] scores = Conv(k, d)
    }""",
    {"w": (8, 3, 1, 1), "a": (4, 8, 1, 1), "b": (8, 8, 1, 1), "d": (6, 8, 1, 1)},
)


def test_layers_that_no_compared_output_depends_on_stay_wide(tmp_path):
    plan = quantized(HEADS, {"x": normal(16, 3, 6, 6)}, tmp_path, output="boxes")["plan"]
    assert plan["cls"] == "a16w8" and plan["box"] == "a8w8"


def test_all_outputs_are_compared_by_default_and_the_worst_is_held_against_the_target(tmp_path):
    arrays = {"x": normal(16, 3, 6, 6)}
    arrays["x"][0] *= 2
    manifest = quantized(HEADS, arrays, tmp_path)
    pairs = zip(outputs(tmp_path / "float.onnx", arrays), outputs(tmp_path / "out/model.onnx", arrays), strict=True)
    shares = [10 ** (-sqnr(exact, got) / 10) for exact, got in pairs]
    assert manifest["plan"]["cls"] == manifest["plan"]["box"] == "a8w8"
    assert manifest["scores"]["mixed"]["sqnr_db"] == pytest.approx(-10 * np.log10(max(shares)), rel=1e-4)
    assert [one["output"] for one in manifest["outputs"]] == ["boxes", "scores"]
    told = [one["mixed"] for one in manifest["outputs"]]
    assert [one["sqnr_db"] for one in told] == pytest.approx([-10 * np.log10(share) for share in shares], rel=1e-4)
    assert [one["l2"] for one in told] == pytest.approx([true_l2(tmp_path, arrays, 0, at) for at in (0, 1)], rel=1e-4)
    page = (tmp_path / "out/report.html").read_text()
    assert f"By output: boxes {told[0]['sqnr_db']:.3g}"[:24] in page


UNLIKE = """(float[n,16] x) => ({outputs}) {{
    a = MatMul(x, w)  h = Relu(a)  box = MatMul(h, v)  l = Gemm(h, u, low)  s = Sigmoid(l)  {last}
}}"""
UNLIKE_WEIGHTS = {"w": (16, 40), "v": 40 * np.abs(normal(40, 4)), "u": (40, 18), "low": np.full(18, -9, np.float32)}


BOXES_AND_SCORES = build(
    UNLIKE.format(outputs="float[n,22] y", last="y = Concat<axis=1>(box, s)"), UNLIKE_WEIGHTS | {"u": normal(40, 18)}
)


def test_an_output_whose_scores_drown_in_its_boxes_is_told_by_channels_and_held_by_the_worse_part(tmp_path):
    arrays = {"x": normal(64, 16)}
    manifest = quantized(BOXES_AND_SCORES, arrays, tmp_path, limit=21.0, narrow=("a8w4",), round_weights="nearest")
    exact, got = (outputs(tmp_path / name, arrays)[0] for name in ("float.onnx", "out/model.onnx"))
    assert [one["channels"] for one in manifest["outputs"]] == ["0-3 on axis 1", "4-21 on axis 1"]
    told = [one["mixed"]["sqnr_db"] for one in manifest["outputs"]]
    assert told == pytest.approx([sqnr(exact[:, :4], got[:, :4]), sqnr(exact[:, 4:], got[:, 4:])], rel=1e-3)
    assert told[0] > told[1] >= 21 and manifest["narrowed"]["layers"] < 3
    assert manifest["scores"]["mixed"]["sqnr_db"] == told[1]
    assert "y channels 4-21 on axis 1" in (tmp_path / "out/report.html").read_text()


def test_an_output_of_unlike_channels_is_a_whole_if_asked_for(tmp_path):
    arrays, options = {"x": normal(64, 16)}, {"limit": 21.0, "narrow": ("a8w4",), "round_weights": "nearest"}
    manifest = quantized(BOXES_AND_SCORES, arrays, tmp_path, split_outputs=False, **options)
    exact, got = (outputs(tmp_path / name, arrays)[0] for name in ("float.onnx", "out/model.onnx"))
    assert manifest["outputs"] == [] and manifest["narrowed"]["layers"] == 3
    assert manifest["scores"]["mixed"]["sqnr_db"] == pytest.approx(sqnr(exact, got), rel=1e-3)


def test_an_output_that_no_sample_changes_is_not_compared(tmp_path):
    model = build("(float[n,4] x) => (float[n,2] y, float[4,4] k) { y = MatMul(x, w)  k = Add(v, v) }",
                  {"w": (4, 2), "v": (4, 4)})  # fmt: skip
    arrays = {"x": normal(4, 4)}  # as many samples as the constant has rows
    manifest = quantized(model, arrays, tmp_path, limit=20.0)
    exact, got = (outputs(tmp_path / name, arrays)[0] for name in ("float.onnx", "out/model.onnx"))
    assert manifest["scores"]["mixed"]["sqnr_db"] == pytest.approx(sqnr(exact, got), rel=1e-3)


def test_probabilities_are_a_whole_though_a_class_is_rare(tmp_path):
    rare = {"w": (16, 6), "b": np.float32([-9, 0, 0, 0, 0, 0])}
    model = build("(float[n,16] x) => (float[n,6] y) { l = Gemm(x, w, b)  y = Softmax<axis=1>(l) }", rare)
    arrays = {"x": normal(64, 16)}
    manifest = quantized(model, arrays, tmp_path, limit=20.0)
    exact, got = (outputs(tmp_path / name, arrays)[0] for name in ("float.onnx", "out/model.onnx"))
    assert manifest["outputs"] == []
    assert manifest["scores"]["mixed"]["sqnr_db"] == pytest.approx(sqnr(exact, got), rel=1e-3)


def test_a_target_over_outputs_of_unlike_scale_is_held_by_the_worst(tmp_path):
    model = build(
        UNLIKE.format(outputs="float[n,4] boxes, float[n,18] s", last="boxes = Identity(box)"), UNLIKE_WEIGHTS
    )
    arrays = {"x": normal(64, 16)}
    quantized(model, arrays, tmp_path, limit=18.0, narrow=("a8w4",), round_weights="nearest")
    pairs = zip(outputs(tmp_path / "float.onnx", arrays), outputs(tmp_path / "out/model.onnx", arrays), strict=True)
    assert min(sqnr(exact, got) for exact, got in pairs) >= 18


def test_channels_of_one_scale_are_not_told_apart(tmp_path):
    model = build("(float[n,16] x) => (float[n,12] y) { y = MatMul(x, w) }", {"w": (16, 12)})
    assert quantized(model, {"x": normal(64, 16)}, tmp_path)["outputs"] == []


def test_labels_first_as_scikit_learn_has_them(tmp_path):
    model = build(
        "(float[n,16] x) => (int64[n] label, float[n,10] p) { l = MatMul(x, w)  p = Softmax(l)  "
        "label = ArgMax<axis=1, keepdims=0>(p) }",
        {"w": (16, 10)},
    )
    arrays = {"x": normal(32, 16)}
    labels = outputs(model.SerializeToString(), arrays)[0]
    manifest = quantized(model, arrays, tmp_path, "top1_drop", 0.5, labels)
    assert manifest["scores"]["float"]["top1"] == 1


def test_an_output_whose_rows_vary_is_refused_with_its_reason(tmp_path):
    model = build(
        "(float[N,8] x) => (float[K] y) { a = MatMul(x, w)  b = Greater(a, zero)  y = Compress(a, f)  f = Reshape(b, all) }".replace(
            "y = Compress(a, f)  f = Reshape(b, all)", "f = Reshape(b, all)  y = Compress(a, f)"
        ),
        {"w": (8, 4), "zero": np.float32(0), "all": np.int64([-1])},
    )
    with pytest.raises(InputError, match="y: its shape changes from sample to sample"):
        quantized(model, {"x": np.random.default_rng(2).standard_normal((12, 8)).astype(np.float32)}, tmp_path)


@pytest.mark.parametrize("declared", ["H,W", "32,32"])
def test_costs_are_of_the_sizes_that_the_data_have(declared, tmp_path):
    model = build(
        f"(float[n,3,{declared}] x) => (float[n,4,1,1] y) {{ c = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w)  "
        "y = GlobalAveragePool(c) }",
        {"w": (4, 3, 3, 3)},
    )
    manifest = quantized(model, {"x": normal(4, 3, 32, 32)}, tmp_path)
    assert manifest["costs"]["bops"]["wide"] == 16 * 8 * (4 * 3 * 3 * 3) * 16 * 16
