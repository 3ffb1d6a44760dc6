"""Data types, precisions and plans."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from quant_core.errors import InputError
from quant_core.precision import PER_TENSOR, DataType, Precision, PrecisionField, PrecisionPlan

ACTIVATIONS = (DataType.INT8, DataType.UINT8, DataType.INT16, DataType.UINT16)
FLOATS = (DataType.FLOAT32, DataType.FLOAT16, DataType.BFLOAT16)
ALL = [
    *(Precision(one, other) for one in ACTIVATIONS for other in (*ACTIVATIONS, DataType.INT4, DataType.UINT4)),
    *(Precision(both, both) for both in FLOATS),
    *(Precision(one, other) for one in FLOATS for other in (*ACTIVATIONS, DataType.INT4, DataType.UINT4)),
]
precisions = st.sampled_from(ALL)
plans = st.dictionaries(st.text(max_size=6), precisions, max_size=6).map(
    lambda layers: PrecisionPlan(tuple(layers.items()))
)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (DataType.INT4, -8, 7),
        (DataType.UINT4, 0, 15),
        (DataType.INT8, -128, 127),
        (DataType.UINT8, 0, 255),
        (DataType.INT16, -32768, 32767),
        (DataType.UINT16, 0, 65535),
        (DataType.INT32, -(2**31), 2**31 - 1),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_code_range_is_what_the_numpy_type_holds(dtype, low, high):
    assert dtype.code_range == (low, high)
    assert np.array([low, high]).astype(dtype.numpy_type).astype(np.int64).tolist() == [low, high]


def test_floats_are_those_without_a_scale():
    assert [kind.code for kind in DataType if kind.is_float] == ["float32", "float16", "bfloat16"]


@pytest.mark.parametrize("precision", ALL, ids=str)
def test_a_precision_reads_back_from_its_text(precision):
    assert Precision.parse(str(precision)) == precision
    assert Precision.parse(precision) is precision


@pytest.mark.parametrize("kind", FLOATS, ids=lambda kind: kind.name)
def test_the_largest_float_is_finite_and_what_is_beyond_is_not(kind):
    with np.errstate(over="ignore"):
        largest, beyond = (np.float64(kind.largest_float * by).astype(kind.numpy_type) for by in (1, 1.01))
    assert np.isfinite(np.float64(largest))
    assert np.isinf(np.float64(beyond))


@pytest.mark.parametrize("kind", FLOATS, ids=lambda kind: kind.name)
def test_a_float_stands_for_both(kind):
    assert Precision.parse(kind.code) == Precision(kind, kind)
    assert Precision.parse(kind.code).is_float


@pytest.mark.parametrize(
    ("text", "block"), [("float32w4b32", 32), ("float16w8b128", 128), ("a8w4b16", 16), ("a16w8t", PER_TENSOR)]
)
def test_b_is_how_many_inputs_share_a_scale(text, block):
    found = Precision.parse(text)
    assert (found.block, str(found)) == (block, text)
    assert found.reading(DataType.INT16).block == (block if found.weights.bits == 4 or not block else None)


@pytest.mark.parametrize(
    ("text", "said"), [("a8w8b32", "leave b32 out"), ("float32w4b24", "power of two"), ("float32w4b8", "from 16 on")]
)
def test_blocks_that_no_weight_has_are_refused(text, said):
    with pytest.raises(InputError, match=f"^precision {text}: .*{said}"):
        Precision.parse(text)


def test_u_marks_unsigned_types():
    assert Precision.parse("au8w8") == Precision(DataType.UINT8, DataType.INT8)
    assert Precision.parse("a8wu4") == Precision(DataType.INT8, DataType.UINT4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a8",
        "w8a8",
        "a7w8",
        "a8w8 ",
        "A8W8",
        "a8wu32",
        "afloat16wfloat16",
        "a4w8",
        "a32w8",
        "a8w8\n",
        "float32w32",
        "float32wfloat32",
        None,
        8,
    ],
)
def test_a_precision_that_is_not_known_is_refused_in_one_line(text):
    with pytest.raises(InputError, match=r"^precision .* is not known: write a16w8") as caught:
        Precision.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "product"), [("a16w8", 128), ("a8w8", 64), ("au16w16", 256), ("a8w4", 32), ("float32", 1024)]
)
def test_bit_product(text, product):
    assert Precision.parse(text).bit_product == product


@pytest.mark.parametrize(
    ("one", "other", "narrower"),
    [
        ("a8w8", "a16w8", True),
        ("a8w8", "a16w16", True),
        ("a16w8", "a8w8", False),
        ("a8w8", "a8w8", False),
        ("au8w8", "a8w8", False),
        ("a16w8", "a8w16", False),
        ("a8w16", "a16w8", False),
        ("a8w4", "a8w8", True),
        ("a16w16", "float32", True),
        ("float16", "float32", True),
        ("float16", "bfloat16", False),
        ("a16w16", "float16", False),
        ("a16w8", "float16", True),
        ("float32w4b64", "float32w4b16", True),
        ("float32w4b16", "float32w4b64", False),
        ("float32w8", "float32w8b64", True),
        ("float32w4b16", "float32w8", True),
        ("a16w8t", "a16w8", True),
        ("a8w8", "a16w8t", True),
        ("a8w4t", "a8w4b16", True),
    ],
)
def test_narrower_than(one, other, narrower):
    assert Precision.parse(one).narrower_than(Precision.parse(other)) is narrower


def test_narrower_than_orders_precisions_strictly():
    for a, b, c in itertools.product(ALL, repeat=3):
        assert not (a.narrower_than(b) and b.narrower_than(a))
        assert not (a.narrower_than(b) and b.narrower_than(c)) or a.narrower_than(c)


class Form(BaseModel):
    precision: PrecisionField


def test_a_pydantic_field_reads_and_writes_the_text():
    form = Form(precision="a16w8")
    assert form.precision == Precision.parse("a16w8")
    assert form.model_dump(mode="json") == {"precision": "a16w8"}
    assert Form.model_json_schema()["properties"]["precision"]["type"] == "string"


def test_a_pydantic_field_names_itself_when_refused():
    with pytest.raises(ValidationError) as caught:
        Form(precision="a9w9")
    assert caught.value.errors()[0]["loc"] == ("precision",)


WIDE, NARROW = Precision.parse("a16w8"), Precision.parse("a8w8")


def test_a_narrowed_plan_changes_the_named_layers_alone_and_keeps_the_order():
    plan = PrecisionPlan.uniform(["first", "second", "third"], WIDE)
    narrowed = plan.narrowed({"third": NARROW, "first": NARROW})
    assert narrowed.as_dict() == {"first": "a8w8", "second": "a16w8", "third": "a8w8"}
    assert narrowed.changed_from(plan) == ["first", "third"]
    assert plan.as_dict() == {"first": "a16w8", "second": "a16w8", "third": "a16w8"}


def test_narrowing_a_layer_the_plan_does_not_have_is_refused():
    with pytest.raises(InputError, match="no layer 'conv9'"):
        PrecisionPlan.uniform(["conv1"], WIDE).narrowed({"conv9": NARROW})


@given(plans)
def test_a_plan_reads_back_from_its_dict(plan):
    assert PrecisionPlan.from_dict(plan.as_dict()) == plan


@given(plans, plans)
def test_plans_have_the_same_digest_only_if_equal(one, other):
    assert (one.digest == other.digest) == (one == other)


def test_the_digest_of_a_plan_never_changes():
    """Stored results are named by it."""
    digest = PrecisionPlan.uniform(["a", "b"], WIDE).digest
    assert digest == "d4381bc07af86610025777dca5048fb0635af44444baa7eeee378d8140e67588"


def test_a_plan_prints_one_aligned_line_a_layer():
    assert str(PrecisionPlan((("conv", WIDE), ("classifier", NARROW)))) == "conv        a16w8\nclassifier  a8w8"
    assert str(PrecisionPlan(())) == ""


@pytest.mark.parametrize(
    ("precisions", "tensors", "said"),
    [
        ("a16w8 a16w8 a16w8", {}, "all layers wide"),
        ("a8w8 a16w8 a8w8", {}, "2 of 3 layers narrowed"),
        ("a8w4 a8w8 a8w8", {}, "3 of 3 layers narrowed (2 at a8w8, 1 at a8w4)"),
        ("a16w16 a8w8 float32", {}, "1 of 3 layers narrowed, 2 lifted to a16w16 and float32"),
        ("a16w8 a16w8 a16w8", {"power": "float32"}, "1 tensor in float"),
        ("a8w8 a16w8 a16w8", {"power": "float32", "log": "float32"}, "1 of 3 layers narrowed, 2 tensors in float"),
    ],
)
def test_a_plan_says_what_differs_from_the_wide_one(precisions, tensors, said):
    named = dict(zip(["a", "b", "c"], precisions.split(), strict=True))
    assert PrecisionPlan.from_dict(named, tensors).beside(WIDE) == said
