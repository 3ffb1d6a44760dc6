"""Which opset a model is brought to, and where it stays as it is."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from quant_core.model.opset import (
    NEWEST,
    OPSET,
    RUNTIME_DOMAIN,
    choose_runtime_pairs,
    has_pairs,
    opset_of,
    pair_domain,
    upgraded,
)


def parsed(body: str, opset: int, ir: int = 8) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: {ir}, opset_import: ["" : {opset}]> agraph {body}')


RELU = "(float[2,3] x) => (float[2,3] y) { y = Relu(x) }"
RESIZE = """(float[1,1,2,2] x) => (float[1,1,4,4] y)
    <float[4] s = {1, 1, 2, 2}> { y = Resize<mode = "linear">(x, s) }"""
UPSAMPLE = """(float[1,1,2,2] x) => (float[1,1,4,4] y)
    { y = Upsample<mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]>(x) }"""
IN_A_BODY = """(bool c, float[1,1,2,2] x) => (float[1,1,4,4] y) <float[4] s = {1, 1, 2, 2}> {
    y = If(c) <
        then_branch = one () => (float[1,1,4,4] a) { a = Resize<mode = "linear">(x, s) },
        else_branch = two () => (float[1,1,4,4] b) { b = Resize<mode = "nearest">(x, s) }
    >
}"""


@pytest.mark.parametrize(
    ("body", "opset", "after"),
    [
        (RELU, 11, OPSET),
        (RELU, OPSET, OPSET),
        (RELU, 22, 22),
        (RELU, 28, NEWEST),
        (RESIZE, 10, 10),
        (RESIZE, 11, None),
        (IN_A_BODY, 10, 10),
        (UPSAMPLE, 7, 9),
    ],
    ids=["old", "as it is", "newer", "too new", "misconverted", "the next Resize", "misconverted in a body", "so far"],
)
def test_a_model_is_raised_as_far_as_that_leaves_what_it_computes(body, opset, after):
    if after is None:  # opset 11's Resize has another list of inputs
        body = body.replace("(x, s)", "(x, , s)")
    assert opset_of(upgraded(parsed(body, opset))) == (after or OPSET)


def test_a_model_with_functions_of_its_own_computes_the_same_when_it_is_raised():
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
        agraph (float[2] x) => (float[2] y) { y = own.twice(x) }
        <opset_import: ["" : 17], domain: "own"> twice (a) => (b) { b = Add(a, a) }"""
    )
    raised = upgraded(model)
    assert opset_of(raised) == OPSET
    session = ort.InferenceSession(raised.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.float32([1, 2])})[0].tolist() == [2, 4]


def test_a_model_that_the_converter_refuses_stays_as_it_is():
    model = parsed("(float[2] x) => (float[2] y) { y = other.Op(x) }".replace("other.Op", "NoSuchOperator"), 17)
    assert upgraded(model) is model


def test_pairs_are_of_the_standard_unless_the_model_says_otherwise():
    model = parsed(RELU, 17)
    assert pair_domain(model) == ""
    choose_runtime_pairs(model)
    choose_runtime_pairs(model)
    assert pair_domain(model) == RUNTIME_DOMAIN
    assert [entry.domain for entry in model.opset_import].count(RUNTIME_DOMAIN) == 1


@pytest.mark.parametrize(
    ("opset", "first", "runs"), [(12, 13, False), (13, 13, True), (20, 21, False), (28, 21, False)]
)
def test_an_opset_has_pairs_between_the_first_with_the_types_and_the_last_with_kernels(opset, first, runs):
    assert has_pairs(parsed(RELU, opset), first) == runs


def test_a_model_is_raised_no_further_than_its_types_need():
    assert opset_of(upgraded(parsed(RELU, 11), 13)) == 13
    assert opset_of(upgraded(parsed(RELU, 17), 13)) == 17
