"""The configuration: what it accepts, and what it says of what it does not."""

import math
import warnings

import pytest
from pydantic import ValidationError

from quant_core.config import MixedPrecisionConfig, QuantizationConfig, Target, config_from
from quant_core.errors import InputError
from quant_core.options import flags_of
from quant_core.precision import DataType, Precision

L2 = {"metric": "l2", "limit": 1}


def test_only_the_target_has_no_default():
    config = config_from(target=L2)
    assert [name for name, field in MixedPrecisionConfig.model_fields.items() if field.is_required()] == ["target"]
    assert (str(config.wide), [str(precision) for precision in config.narrow]) == ("a16w8", ["a8w8"])


def test_beside_float32_codes_are_unsigned_unless_asked_otherwise():
    assert config_from(target=L2, wide="float32").narrow == (Precision.parse("au8w8"),)
    assert config_from(target=L2, wide=Precision.parse("float32"), narrow=["a8w8"]).narrow == (Precision.parse("a8w8"),)


def test_candidates_are_layers_or_everything_that_is_quantized():
    assert config_from(target=L2, layer_ops=["Gemm"]).candidate_ops == ("Gemm",)
    everything = config_from(target=L2, layer_ops=["Gemm"], candidates="all").candidate_ops
    assert {"Gemm", "Add", "Mul", "AveragePool"} < set(everything)
    assert "Conv" not in everything  # no layer, as the user said


def test_a_ladder_is_read_in_order():
    config = config_from(target=L2, wide="a16w16", narrow=["a16w8", "a8w8"])
    assert config.narrow == (Precision.parse("a16w8"), Precision.parse("a8w8"))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        pytest.param({}, "target: Field required", id="no target"),
        pytest.param({"target": L2, "narow": []}, "narow: is not an option; did you mean narrow?", id="typing error"),
        pytest.param(
            {"target": L2, "zzz": 1},
            "zzz: is not an option; there are narrow, keep_wide, samples, lift, float_tensors, search, ",
            id="unknown",
        ),
        pytest.param(
            {"target": {**L2, "limitt": 1}},
            "target.limitt: is not an option; did you mean limit?",
            id="typing error in the target",
        ),
        pytest.param({"target": {"metric": "l3", "limit": 1}}, "target.metric: Input should be ", id="unknown metric"),
        pytest.param(
            {"target": {"metric": "l2", "limit": math.nan}}, "target.limit: Input should be a finite", id="nan"
        ),
        pytest.param(
            {"target": {"metric": "l2", "limit": math.inf}}, "target.limit: Input should be a finite", id="inf"
        ),
        pytest.param({"target": {"metric": "metric_drop", "limit": 1}}, "target: the metric ", id="no function"),
        pytest.param({"target": {**L2, "function": "m:f"}}, "target: the metric ", id="function for another metric"),
        pytest.param(
            {"target": {"metric": "metric_drop", "limit": 1, "function": "no_colon"}},
            "target.function: String should match",
            id="function without a colon",
        ),
        pytest.param(
            {"target": L2, "wide": "a9w9"}, "wide: precision 'a9w9' is not known: write ", id="unknown precision"
        ),
        pytest.param({"target": L2, "narrow": ["a8w8", "x"]}, "narrow.1: precision 'x' is not known", id="second rung"),
        pytest.param({"target": L2, "narrow": []}, "narrow: ", id="nothing to narrow to"),
        pytest.param({"target": L2, "wide": "a8w8"}, "narrow: a8w8 is not narrower than a8w8", id="wide is narrow"),
        pytest.param(
            {"target": L2, "wide": "a16w16", "narrow": ["a8w8", "a16w8"]},
            "narrow: a16w8 is not narrower than a8w8",
            id="ladder upwards",
        ),
        pytest.param(
            {"target": L2, "samples": 1}, "samples must be 'auto', 'all' or at least 2, not 1", id="one sample"
        ),
        pytest.param(
            {"target": L2, "samples": "some"},
            "samples: Input should be 'auto' or 'all' or Input should be a valid integer",
            id="samples neither all nor a number",
        ),
        pytest.param({"target": L2, "batch_size": 0}, "batch_size: ", id="empty batches"),
        pytest.param({"target": L2, "layer_ops": []}, "layer_ops: ", id="no layers"),
        pytest.param(
            {"target": L2, "layer_ops": ["Conv", "Softmax"]},
            "layer_ops.1: Input should be 'Conv', 'ConvTranspose', 'Gemm', 'MatMul', 'LSTM', 'GRU', 'RNN' or 'Gather'",
            id="no layer has that form",
        ),
        pytest.param({"target": L2, "search": "random"}, "search: Input should be 'greedy'", id="strategy"),
        pytest.param({"target": L2, "calibrate": "median"}, "calibrate: Input should be ", id="range method"),
        pytest.param({"target": L2, "percentile": 50}, "percentile: Input should be greater than 50", id="half"),
        pytest.param(
            {"target": L2, "percentile": 99, "calibrate": "mse"},
            "percentile is for calibrate='percentile', not for 'mse'; leave it out",
            id="percentile of another method",
        ),
        pytest.param(
            {"target": L2, "power_of_two_rounding": "nearest"},
            "power_of_two_rounding is for the pow2 methods, not for 'percentile'",
            id="rounding of another method",
        ),
        pytest.param(
            {"target": L2, "calibrate": "pow2-minmse", "calibrate_weights": "mse"},
            "calibrate_weights: 'pow2-minmse' chooses the scales of weights too",
            id="weights of a pow2 method",
        ),
        pytest.param({"target": L2, "block_size": 48}, "block_size must be a power of two", id="odd blocks"),
        pytest.param({"target": L2, "block_size": 32}, "block_size is for 4-bit weights", id="blocks of 8 bits"),
        pytest.param(
            {"target": L2, "block_size": 32, "narrow": ("a8w8", "a8w4b16")},
            "block_size is for 4-bit weights",
            id="blocks that precisions have themselves",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(options, line):
    with pytest.raises(InputError) as caught:
        config_from(**options)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_frozen():
    config = config_from(target=L2)
    with pytest.raises(ValidationError, match="frozen"):
        config.wide = Precision.parse("a8w8")
    with pytest.raises(ValidationError, match="frozen"):
        config.target.limit = 2.0


def test_reads_back_from_its_json():
    config = config_from(target=L2, wide="a16w16", narrow=["au8w8"], samples=20, output="logits")
    assert MixedPrecisionConfig.model_validate_json(config.model_dump_json()) == config


def test_quantization_is_the_part_that_decides_numbers():
    config = config_from(target=L2, per_channel=True, calibrate="minmax", search="linear")
    assert config.quantization() == QuantizationConfig(per_channel=True, calibrate="minmax")


@pytest.mark.parametrize(
    ("given", "biases"),
    [
        ({"cost": "bytes"}, "small"),
        ({"max_bytes": 0.5}, "small"),
        ({"cost": "bytes", "biases": "int32"}, "int32"),
        ({"cost": "bytes", "runtime": "qnn"}, "int32"),
        ({"cost": "bytes", "format": "qoperator", "wide": "float32"}, "int32"),
        ({"cost": "bytes", "correct_bias": True}, "int32"),
        ({}, "int32"),
    ],
)
def test_biases_are_small_where_bytes_are_saved_and_the_runtime_rounds_them(given, biases):
    config = config_from(target=L2, **given)
    assert (config.biases, config.saves_bytes) == (biases, "cost" in given or "max_bytes" in given)
    assert (("--biases", biases) in list(flags_of(config))) == ("biases" in given)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"cost": "bytes"}, (True, "float16", DataType.FLOAT32)),
        ({"cost": "bytes", "wide": "a8w8", "narrow": ["a8w4"]}, (True, "float16", DataType.INT8)),
        ({"cost": "bytes", "others": "wide", "absorb_biases": False}, (False, "float16", DataType.INT16)),
        ({"cost": "bytes", "dual_pairs": True}, (True, "float16", DataType.INT16)),
        ({"cost": "bytes", "runtime": "reference"}, (False, "float32", DataType.INT16)),
        ({}, (False, "float32", DataType.INT16)),
    ],
)
def test_what_is_of_no_use_to_the_runtime_is_left_out_where_bytes_are_saved(given, found):
    config = config_from(target=L2, **given)
    assert (config.absorb_biases, config.channel_scales, config.others_type) == found


def test_dual_pairs_leave_nothing_in_float():
    with pytest.raises(InputError, match="dual_pairs: every tensor has a wide pair"):
        config_from(target=L2, dual_pairs=True, others="float32")


@pytest.mark.parametrize(
    ("given", "ladder"),
    [
        ({"narrow": ["a8w8", "a8w4"]}, "a16w8 a16w8t a8w8 a8w4 a8w4t"),
        ({"narrow": ["a16w8t", "a8w4"]}, "a16w8 a16w8t a8w4"),  # the user says which
        ({"wide": "a16w16", "narrow": ["a8w8"]}, "a16w16 a8w8 a8w8t"),
        ({"wide": "float32", "narrow": ["float32w8", "float32w4"]}, "float32 float32w8 float32w4"),
        ({"narrow": ["a8w8"], "per_channel": False}, "a16w8 a8w8"),
    ],
)
def test_where_bytes_are_saved_a_layer_may_have_one_scale(given, ladder):
    config = config_from(target=L2, cost="bytes", **given)
    assert " ".join(map(str, config.ladder)) == ladder
    assert config_from(**config.model_dump()) == config


def test_the_json_schema_is_written_without_a_warning_and_shows_defaults_as_text():
    """Prefect makes its form from it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fields = MixedPrecisionConfig.model_json_schema()["properties"]
    assert (fields["wide"]["default"], fields["narrow"]["default"]) == ("a16w8", ["a8w8"])
    for name in ("wide", "narrow"):
        default = MixedPrecisionConfig.model_fields[name].get_default(call_default_factory=True)
        assert (
            config_from(target=L2, **{name: fields[name]["default"]}).model_dump()[name]
            == config_from(target=L2, **{name: default}).model_dump()[name]
        )
    assert all("description" in field for field in fields.values() if "$ref" not in field)


@pytest.mark.parametrize(
    ("metric", "score", "met"),
    [
        ("l2", 0.5, True),
        ("l2", 1.0, True),
        ("l2", 1.0000001, False),
        ("l2", math.nan, False),
        ("sqnr_db", 1.0, True),
        ("sqnr_db", 0.5, False),
        ("sqnr_db", math.inf, True),
        ("sqnr_db", math.nan, False),
        ("top1_drop", -0.5, True),
    ],
)
def test_a_target_is_met_up_to_and_with_its_limit(metric, score, met):
    assert Target(metric=metric, limit=1.0).met_by(score) is met


def test_zero_allowed_means_zero():
    target = Target(metric="top1_drop", limit=0)
    assert target.met_by(0.0)
    assert not target.met_by(1e-12)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"metric": "l2", "limit": 0.25}, "l2 <= 0.25"),
        ({"metric": "sqnr_db", "limit": 30}, "sqnr_db >= 30"),
        ({"metric": "metric_drop", "limit": 0.01, "function": "mine:iou"}, "mine:iou <= 0.01"),
    ],
)
def test_a_target_prints_as_a_claim(options, text):
    assert str(Target(**options)) == text


@pytest.mark.parametrize(
    ("wide", "narrow", "opset"),
    [("a16w8", "a8w8", 21), ("a16w8", "a16w2", 25), ("float32", "au8w8", 13), ("float32", "float32w2", 25)],
)
def test_a_model_is_raised_to_the_first_opset_whose_pairs_have_its_types(wide, narrow, opset):
    assert config_from(wide=wide, narrow=[narrow], target={"metric": "l2", "limit": 1}).opset == opset
