"""Sizes below zero: declared ones are open, inferred ones are refused by the node that makes them."""

import onnx
import pytest

from quant_core.errors import InputError
from quant_core.model.model_file import read_model
from tests.models import build


def saved(body, folder):
    onnx.save(build(body), folder / "m.onnx")
    return folder / "m.onnx"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("m = MaxPool <kernel_shape = [2, 30]> (x)  y = Relu(m)", id="in the graph"),
        pytest.param(
            "c = Constant<value = bool {1}>()  y = If (c) <"
            "then_branch = g1 () => (float[n,3,h,w] o1) { o1 = MaxPool <kernel_shape = [2, 30]> (x) },"
            "else_branch = g2 () => (float[n,3,h,w] o2) { o2 = Relu(x) }>",
            id="in a branch",
        ),
    ],
)
def test_a_window_larger_than_what_it_slides_over_is_refused_beside_a_slice(body, tmp_path):
    # The Slice reads the input: one that reads such a size is what this guards other software from.
    sliced = "s = Constant<value = int64[1] {1}>()  e = Constant<value = int64[1] {4}>()  z = Slice(x, s, e)"
    path = saved(f"(float[n,3,8,8] x) => (float[n,3,h,w] y, float[k,3,8,8] z) {{ {body}  {sliced} }}", tmp_path)
    with pytest.raises(InputError, match=r"m.onnx: MaxPool .* works out to a size of -21: its kernel_shape"):
        read_model(path, "m.onnx")


def test_a_declared_size_below_zero_is_an_open_one(tmp_path):
    model = build("(float[n,3] x) => (float[n,3] y) { y = Relu(x) }")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    onnx.save(model, tmp_path / "m.onnx")
    first = read_model(tmp_path / "m.onnx", "m.onnx").graph.input[0].type.tensor_type.shape.dim[0]
    assert not first.HasField("dim_value")
