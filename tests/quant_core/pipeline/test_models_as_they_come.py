"""Models as exporters write them, each with the score it must have: what once went wrong in silence."""

import json
import os

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.errors import TargetError
from tests.models import build
from tests.quant_core.workbench import saved

LOWEST = float(np.finfo(np.float32).min)


def quantized(model, arrays, folder, metric="sqnr_db", limit=0.0, labels=None, **options):
    """The manifest of a run on the arrays."""
    path = model if isinstance(model, (str, os.PathLike)) else saved(model, folder)
    data = arrays if labels is None else {**arrays, "labels": labels}
    config = config_from(target={"metric": metric, "limit": limit}, **options)
    auto_mixed_precision(path, calibration=arrays, evaluation=data, config=config, output=folder / "out", workers=1)
    return json.loads((folder / "out/manifest.json").read_text())


def outputs(path, arrays):
    feeds = {name: np.asarray(array) for name, array in arrays.items()}
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def sqnr(one, other):
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return 10 * np.log10((one**2).sum() / ((one - other) ** 2).sum())


def attention(mask, after):
    """One head of masked attention; `after` is what lies between the masked scores and the Softmax."""
    return build(
        f"""(float[N,6,8] x, float[N,6] mask) => (float[N,6,8] y) {{
            q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)
            kt = Transpose<perm=[0,2,1]>(k)  s = MatMul(q, kt)
            inv = Sub(one, mask)  far = Mul(inv, big)  add = Unsqueeze(far, axis)  sm = Add(s, add)
            {after}
            o = MatMul(p, v)  y = MatMul(o, wo)
        }}""",
        {
            **dict.fromkeys(("wq", "wk", "wv", "wo"), (8, 8)),
            **{"one": np.float32(1), "big": np.float32(mask), "axis": np.int64([1])},
            **{"flat": np.int64([-1, 6]), "back": np.int64([-1, 6, 6])},
        },
    )


PLAIN = "p = Softmax(sm)"
RESHAPED = "f = Reshape(sm, flat)  t = Softmax(f)  p = Reshape(t, back)"
BOUNDED = "f = Max(sm, big)  p = Softmax(f)"


@pytest.mark.parametrize(
    ("mask", "after"),
    [
        *[(value, PLAIN) for value in (-1e4, -1e9, LOWEST)],
        *[(value, RESHAPED) for value in (-1e4, -1e9, LOWEST)],
        *[(value, BOUNDED) for value in (-1e4, -1e9)],
    ],
)
def test_a_mask_takes_nothing_of_the_scores_resolution(mask, after, tmp_path):
    generator = np.random.default_rng(0)
    arrays = {
        "x": generator.standard_normal((32, 6, 8)).astype(np.float32),
        "mask": (np.arange(6) < generator.integers(2, 7, 32)[:, None]).astype(np.float32),
    }
    (tmp_path / "mild").mkdir()
    mild = quantized(attention(-30, PLAIN), arrays, tmp_path / "mild", most_layers=1, search="linear")
    found = quantized(attention(mask, after), arrays, tmp_path, most_layers=1, search="linear")
    assert found["scores"]["wide"]["sqnr_db"] == pytest.approx(mild["scores"]["wide"]["sqnr_db"], abs=0.5)


def test_nans_that_the_model_itself_replaces_are_not_counted(tmp_path):
    model = build(
        """(float[N,6] x, float[N,1] row) => (float[N,4] y) {
            a = MatMul(x, w)  s = Mul(a, row)  p = Softmax(s)
            bad = IsNaN(p)  safe = Where(bad, zero, p)  y = MatMul(safe, v)
        }""",
        {"w": (6, 6), "v": (6, 4), "zero": np.float32(0)},
    )
    # 1e30 * 1e30 overflows to an infinity, and the Softmax of that is a NaN.
    arrays = {"x": np.random.default_rng(0).standard_normal((16, 6)).astype(np.float32), "row": np.ones((16, 1), "f4")}
    arrays["row"][3] = 3e38
    arrays["x"][3] *= 10
    outcome = quantized(model, arrays, tmp_path)
    exact, got = outputs(tmp_path / "float.onnx", arrays)[0], outputs(tmp_path / "out/model.onnx", arrays)[0]
    assert np.isfinite(got).all() and not exact[3].any()
    assert outcome["scores"]["mixed"]["sqnr_db"] == pytest.approx(sqnr(exact, got), rel=0.05) and sqnr(exact, got) > 25


def test_what_a_pad_adds_spoils_no_range(tmp_path):
    def padded(value):
        return build(
            "(float[N,3,6,6] x) => (float[N,4,8,8] y) { d = Conv(x, w)  e = Pad(d, pads, far)  y = Conv(e, v) }",
            {
                "w": (8, 3, 1, 1),
                "v": (4, 8, 1, 1),
                "pads": np.int64([0, 0, 1, 1, 0, 0, 1, 1]),
                "far": np.float32(value),
            },
        )

    arrays = {"x": np.random.default_rng(0).standard_normal((16, 3, 6, 6)).astype(np.float32)}
    quantized(padded(50.0), arrays, tmp_path, most_layers=1, search="linear")
    exact, got = outputs(tmp_path / "float.onnx", arrays)[0], outputs(tmp_path / "out/model.onnx", arrays)[0]
    inside = np.s_[:, :, 1:-1, 1:-1]
    assert sqnr(exact, got) > 40 and sqnr(exact[inside], got[inside]) > 25


def test_what_a_model_says_about_itself_is_kept(tmp_path):
    model = build("(float[N,3] x) => (float[N,4] y) { a = MatMul(x, w)  y = Relu(a) }", {"w": (3, 4)})
    for key in ("names", "stride", "character"):
        model.metadata_props.add(key=key, value=f"a\n{key}")
    model.doc_string, model.domain, model.model_version = "what it is", "com.example", 7
    model.graph.doc_string, model.graph.input[0].doc_string = "how it works", "RGB"
    quantized(model, {"x": np.ones((4, 3), np.float32)}, tmp_path)
    found = onnx.load(tmp_path / "out/model.onnx")
    assert list(found.metadata_props)[:3] == list(model.metadata_props)
    assert all(entry.key.startswith("narrowcast.") for entry in list(found.metadata_props)[3:])
    assert (found.doc_string, found.domain, found.model_version) == ("what it is", "com.example", 7)
    assert (found.graph.doc_string, found.graph.input[0].doc_string) == ("how it works", "RGB")


def test_a_nan_of_the_wide_model_is_named(tmp_path):
    model = build(
        "(float[N,1] x) => (float[N,1] y) { c = MatMul(x, w)  l = Log(c)  y = Sin(l) }", {"w": np.float32([[1]])}
    )
    # Beside 10,000 a hundred-thousandth becomes 0, whose logarithm has no sine.
    arrays = {"x": np.float32([[1e4], [1e-5], [3], [5]])}
    with pytest.raises(TargetError, match="computes a NaN in an output that is compared"):
        quantized(model, arrays, tmp_path, float_tensors=False)


@pytest.mark.parametrize(
    "names",
    [
        ("b0", "w2/a16w8", "c2/bias/a16w8", "x/a16/scale", "x/a16/codes/QuantizeLinear"),
        ("r/a8", "r/a16/codes", "w1/a8w8/codes", "w2/a8w8/scale", "w1/a16w8/DequantizeLinear"),
        ("r/a16", "r/a16/codes", "w1/a8w8~/codes", "w2/a8w8/scale", "c1"),
    ],
    ids=["one set", "another", "the other names too"],
)
def test_a_model_that_has_the_names_that_a_plan_makes_gets_others(tmp_path, names):
    one, two, three, scale, node = names
    text = """(float[N,3,6,6] x) => (float[N,4,6,6] y) {
        ["n"] a0 = Conv<pads=[1,1,1,1]>(x, w1, b1)  r = Relu(a0)
        ["c2"] b0 = Conv<pads=[1,1,1,1]>(r, w2, b2)  c0 = Mul(b0, s0)
        ["c3"] y = Conv(c0, w3, b3)
    }"""
    weights = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "s0": (), "w3": (4, 8, 1, 1), "b3": (4,)}
    model = build(text.replace('["', "[").replace('"]', "]"), weights)
    renamed = {"a0": one, "b0": two, "c0": three, "s0": scale}
    for made in model.graph.node:
        made.name = node if made.name == "n" else made.name
        made.input[:] = [renamed.get(name, name) for name in made.input]
        made.output[:] = [renamed.get(name, name) for name in made.output]
    for tensor in model.graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    data = {"x": np.random.default_rng(0).standard_normal((8, 3, 6, 6)).astype(np.float32)}
    onnx.checker.check_model(model)
    manifest = quantized(model, data, tmp_path, limit=15.0)
    assert manifest["scores"]["mixed"]["sqnr_db"] > 15
    shipped = onnx.load(tmp_path / "out/model.onnx")
    made = [name for entry in shipped.graph.node for name in entry.output] + [t.name for t in shipped.graph.initializer]
    assert len(made) == len(set(made))
