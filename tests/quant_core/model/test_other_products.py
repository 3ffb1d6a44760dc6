"""What operators take that multiply and are no layers: counted by hand from their shapes."""

import numpy as np
import onnx
import pytest

from quant_core.execution.machine import Machine
from quant_core.model.layers import layers_from_table
from quant_core.model.other_products import other_products
from quant_core.model.preparation.prepare import prepare
from quant_core.storage.data import refer_data
from quant_core.storage.references import refer
from tests.models import build
from tests.quant_core.pipeline.test_models_as_they_come import quantized
from tests.quant_core.workbench import saved

BRANCHES = """y = If (c) <then_branch = g1 () => (float[n,4,6] o1) { o1 = Conv(h, w) },
                          else_branch = g2 () => (float[n,4,6] o2) { t = Conv(h, w)  u = Conv(t, e)  o2 = Neg(u) }>"""
ROUNDS = """m0 = Identity(h)  y = Loop (many, , m0) <body = b (int64 i, bool go, float[n,6,8] s)
             => (bool more, float[n,6,8] t) { more = Identity(go)  t = MatMul(s, q) }>"""
CASES = {
    "an excluded layer": ("n,6,9", "[out] y = MatMul(h, v)", {"v": (9, 5)}, [("MatMul", 6 * 9 * 5, 45)]),
    "a recurrent layer": (
        "6,n,9",
        "y, a, b = LSTM<hidden_size=4>(h, x1, x2)",
        {"x1": (1, 16, 9), "x2": (1, 16, 4)},
        [("LSTM", 6 * (16 * 9 + 16 * 4), 16 * 13)],
    ),
    "a gated unit, both directions": (
        "6,n,9",
        'y, a = GRU<hidden_size=4, direction="bidirectional">(h, x1, x2)',
        {"x1": (2, 12, 9), "x2": (2, 12, 4)},
        [("GRU", 6 * 2 * (12 * 9 + 12 * 4), 2 * 12 * 13)],
    ),
    "attention": (
        "n,6,8",
        "y = com.microsoft.MultiHeadAttention<num_heads=2>(h, h, h)",
        {},
        [("com.microsoft:MultiHeadAttention", 6 * 6 * (8 + 8), 0)],
    ),
    "attention with its projection": (
        "n,6,8",
        "y = com.microsoft.Attention<num_heads=2>(h, pr, bias)",
        {"pr": (8, 24), "bias": (24,)},
        [("com.microsoft:Attention", 6 * 8 * 24 + 2 * 6 * 6 * 8, 8 * 24)],
    ),
    "a fused convolution": (
        "n,3,8",
        'y = com.microsoft.FusedConv<activation="Relu">(h, w, one)',
        {"w": (4, 3, 3), "one": (4,)},
        [("com.microsoft:FusedConv", 6 * 4 * 3 * 3, 36)],
    ),
    "a fused product": (
        "n,6,8",
        "y = com.microsoft.FusedMatMul<alpha=2.0>(h, v)",
        {"v": (8, 5)},
        [("com.microsoft:FusedMatMul", 6 * 8 * 5, 40)],
    ),
    "sums of products": (
        "n,6,8",
        'y = Einsum<equation="nij,jk->nik">(h, v)',
        {"v": (8, 5)},
        [("Einsum", 6 * 8 * 5, 40)],
    ),
    "the larger branch": ("n,3,8", BRANCHES, {"w": (4, 3, 3), "e": (4, 4, 1)}, [("If", 6 * 4 * 9 + 6 * 4 * 4, 52)]),
    "a loop": ("n,6,8", ROUNDS, {"q": (8, 8), "many": np.int64(2)}, [("Loop", None, 64)]),
    "none": ("n,6,8", "y = Neg(h)", {}, []),
}


def model_of(name):
    """A model with one layer and what is counted; all sizes but the samples' are open in its input."""
    shape, text, weights, _ = CASES[name]
    width = int(shape.rsplit(",", 1)[-1])
    opened = ",".join("n" if dim == "n" else f"d{place}" for place, dim in enumerate(shape.split(",")))
    rest = ", int64 k" if "If" in text else ""
    more = "z = Constant<value_int=3>()  c = Equal(k, z)" if "If" in text else ""
    model = build(
        f"(float[{opened}] x{rest}) => (float[{opened}] y) {{ [layer] h = MatMul(x, first)  {more} {text} }}",
        {"first": (width, width), **weights},
    )
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    if "com.microsoft" in text:
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    sizes = [7 if dim == "n" else int(dim) for dim in shape.split(",")]
    arrays = {"x": np.random.default_rng(0).standard_normal(sizes).astype(np.float32)}
    if shape.split(",")[0] != "n":
        arrays["x"] = np.ascontiguousarray(np.moveaxis(arrays["x"], 1, 0))
    return model, arrays | ({"k": np.int64(3)} if rest else {})


@pytest.mark.parametrize("name", CASES)
def test_what_operators_take_that_are_no_layers(name, tmp_path):
    model, arrays = model_of(name)
    excluded = ("out",) if "excluded" in name else ()
    table = prepare(
        refer(saved(model, tmp_path)),
        ("Conv", "MatMul"),
        Machine(tmp_path / "cache"),
        exclude=excluded,
        data=refer_data(arrays, tmp_path / "cache"),
    )
    assert [(one.op, one.macs, one.weight_elements) for one in other_products(table)] == CASES[name][-1]
    assert [layer.name for layer in layers_from_table(table)] == ["layer"]


def test_a_share_is_of_the_whole_model(tmp_path):
    model, arrays = model_of("a recurrent layer")
    found = quantized(model, arrays, tmp_path, layer_ops=("Conv", "MatMul"))
    layer, others = 6 * 9 * 9, 6 * 16 * 13
    assert found["narrowed"]["layers"] == 1 and found["narrowed"]["of"] == 2
    assert found["narrowed"]["macs_share"] == pytest.approx(layer / (layer + others))
    assert found["costs"]["bops"]["wide"] == 16 * 8 * layer + 32 * 32 * others
    assert found["costs"]["bytes"]["wide"] == 9 * (9 + 1 + 4) + 4 * 16 * 13  # codes, zero point and scale a channel
    [left] = found["narrowed"]["others"]
    assert (left["op"], left["nodes"], left["precision"]) == ("LSTM", 1, "float")
    assert left["macs_share"] == pytest.approx(others / (layer + others))
    assert "1 LSTM stays in float (72% of the multiply-accumulates)" in (tmp_path / "out/report.html").read_text()


def test_products_that_the_search_does_not_choose_are_wide(tmp_path):
    model = build(
        "(float[n,3,8] x) => (float[n,4,5] y) { h = Conv(x, w)  y = MatMul(h, v) }", {"w": (4, 3, 3), "v": (6, 5)}
    )
    arrays = {"x": np.random.default_rng(0).standard_normal((8, 3, 8)).astype(np.float32)}
    found = quantized(model, arrays, tmp_path, layer_ops=("Conv",))
    assert found["narrowed"]["of"] == 2
    assert found["costs"]["bops"]["wide"] == 16 * 8 * (6 * 4 * 9 + 4 * 6 * 5)
    assert found["costs"]["bops"]["mixed"] == 8 * 8 * 6 * 4 * 9 + 16 * 8 * 4 * 6 * 5
