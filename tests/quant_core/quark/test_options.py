"""Every field and option of Quark: honoured, with an effect that can be seen, or refused by name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from quant_core import UnsupportedError
from quant_core.quark import (
    CalibrationMethod,
    Config,
    ModelQuantizer,
    PowerOfTwoMethod,
    QuantFormat,
    QuantizationConfig,
    QuantType,
    VitisQuantFormat,
    VitisQuantType,
)
from quant_core.quark.fields import AUTO_MIX_FIELDS, EXTRA_FIELDS, QUANTIZATION_FIELDS
from tests.models import MODELS, build, samples
from tests.quant_core.quark.scripts import MODEL, Reader, auto, constants, narrowed, quantized, types, weight_types

DOCUMENTED = """calibrate_method quant_format activation_type weight_type input_nodes output_nodes op_types_to_quantize
    nodes_to_quantize extra_op_types_to_quantize nodes_to_exclude subgraphs_to_exclude specific_tensor_precision
    execution_providers per_channel reduce_range optimize_model use_dynamic_quant use_external_data_format
    convert_fp16_to_fp32 convert_nchw_to_nhwc include_sq include_rotation include_cle include_auto_mp include_fast_ft
    enable_npu_cnn enable_npu_transformer debug_mode crypto_mode print_summary ignore_warnings extra_options""".split()
DOCUMENTED_AUTO = """DataSize TargetOpType TargetQuantType ActTargetQuantType WeightTargetQuantType BiasTargetQuantType
    TargetTensors TargetIndices ExcludeIndices OutputIndex L2Target Top1AccTarget EvaluateFunction NumTarget
    NoInputQDQShared DualQuantNodes AutoMixUseFastFT""".split()
TABLES = {"": QUANTIZATION_FIELDS, "extra": EXTRA_FIELDS, "auto": AUTO_MIX_FIELDS}
ALL = [(where, name) for where, fields in TABLES.items() for name in fields]
REFUSED = [(where, name) for where, name in ALL if TABLES[where][name].instead is not None]

CHAIN = MODELS["chain"]()
EFFECTS: dict[tuple[str, str], Callable[..., None]] = {}


def effect(where: str, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers a check that an option does what it says."""

    def registered(check: Callable[..., None]) -> Callable[..., None]:
        assert (where, name) not in EFFECTS
        EFFECTS[where, name] = check
        return check

    return registered


def test_every_documented_field_is_in_the_table():
    assert set(DOCUMENTED) == set(QUANTIZATION_FIELDS)
    assert set(DOCUMENTED_AUTO) == set(AUTO_MIX_FIELDS)


def test_every_field_is_honoured_with_an_effect_or_refused():
    assert set(EFFECTS) | set(REFUSED) == set(ALL)
    assert set(EFFECTS).isdisjoint(REFUSED)


@pytest.mark.parametrize(("where", "name"), REFUSED)
def test_a_refused_field_is_named_and_passes_at_its_default(where, name):
    field = TABLES[where][name]

    def given(value):
        mix = {"ActTargetQuantType": QuantType.QInt8, "TargetIndices": [0]} | ({name: value} if where == "auto" else {})
        extra = {"AutoMixprecision": mix} | ({name: value} if where == "extra" else {})
        return {"include_auto_mp": True, "extra_options": extra} | ({} if where else {name: value})

    QuantizationConfig(**given(field.default))
    other = (not field.default) if isinstance(field.default, bool) else ["something"]
    with pytest.raises(NotImplementedError, match=f"{name}=.*{re.escape(field.instead)}"):
        QuantizationConfig(**given(other))


@pytest.mark.parametrize(("where", "name"), EFFECTS)
def test_an_honoured_field_has_its_effect(where, name, tmp_path, monkeypatch, capsys):
    there = {"tmp_path": tmp_path, "monkeypatch": monkeypatch, "capsys": capsys}
    check = EFFECTS[where, name]
    wanted = check.__code__.co_varnames[: check.__code__.co_argcount]
    check(**{argument: there[argument] for argument in wanted})


def scales(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return constants(model, "/scale")


# ---- fields of QuantizationConfig


@effect("", "calibrate_method")
def _methods() -> None:
    found = {method: scales(quantized(calibrate_method=method)) for method in PowerOfTwoMethod}
    for method in PowerOfTwoMethod:
        assert {float(np.frexp(scale)[0]) for name, scale in found[method].items() if "bias" not in name} == {0.5}
    # The largest value in calibration is the end of the range.
    top = np.abs(samples(MODEL, 11, 1)["x"]).max()
    assert scales(quantized(calibrate_method=CalibrationMethod.MinMax))["x/a8"] == np.float32(top / 127)
    assert scales(quantized(calibrate_method=CalibrationMethod.Entropy))["x/a8"] < np.float32(top / 127)
    with pytest.raises(UnsupportedError, match="Distribution is not supported; use Percentile"):
        QuantizationConfig(calibrate_method=CalibrationMethod.Distribution)


@effect("", "quant_format")
def _formats() -> None:
    assert quantized(quant_format=VitisQuantFormat.QDQ) == quantized(quant_format=QuantFormat.QDQ)
    with pytest.raises(NotImplementedError, match="quant_format=FixNeuron is not supported; use QDQ"):
        QuantizationConfig(quant_format=VitisQuantFormat.FixNeuron)
    integer = quantized(CHAIN, quant_format=QuantFormat.QOperator)
    assert [node.op_type for node in integer.graph.node].count("QLinearConv") == 3
    for wide in ({"activation_type": VitisQuantType.QInt16}, {"weight_type": QuantType.QInt4}):
        with pytest.raises(
            NotImplementedError, match="quant_format=QOperator: .* 8-bit types only, not for .*_type=int"
        ):
            QuantizationConfig(quant_format=QuantFormat.QOperator, **wide)
    with pytest.raises(NotImplementedError, match="no integer operator for layer 'up' \\(ConvTranspose\\)"):
        quantized(MODELS["transposed"](), quant_format=QuantFormat.QOperator)


@effect("", "activation_type")
def _activation_type() -> None:
    assert {kind for kinds in types(quantized(activation_type=QuantType.QUInt8)).values() for kind in kinds} == {
        "UINT8"
    }


@effect("", "weight_type")
def _weight_type() -> None:
    found = weight_types(quantized(weight_type=QuantType.QInt4))
    assert {found[name] for name in ("w1", "w2", "w3")} == {"INT4"}


@effect("", "input_nodes")
def _input_nodes() -> None:
    found = quantized(input_nodes=["inner"])
    assert "x" not in types(found)
    assert {"w2", "w3"} == {name for name in weight_types(found) if name.startswith("w")}


@effect("", "output_nodes")
def _output_nodes() -> None:
    found = quantized(output_nodes=["inner"])
    assert {"w1", "w2"} == {name for name in weight_types(found) if name.startswith("w")}
    assert "y" not in types(found)


@effect("", "op_types_to_quantize")
def _op_types() -> None:
    assert {"h", "y"} <= set(types(quantized()))
    found = types(quantized(op_types_to_quantize=["Conv"]))
    assert "h" in found and "y" not in found


@effect("", "extra_op_types_to_quantize")
def _extra_op_types() -> None:
    assert "y" in types(quantized(op_types_to_quantize=["Conv"], extra_op_types_to_quantize=["Sigmoid"]))
    with pytest.raises(NotImplementedError, match="LSTM is not quantized; leave it out"):
        QuantizationConfig(extra_op_types_to_quantize=["LSTM"])


@effect("", "nodes_to_quantize")
def _nodes_to_quantize() -> None:
    found = quantized(nodes_to_quantize=["stem"])
    assert set(weight_types(found)) == {"w1", "stem/bias"}
    assert set(types(found)) == {"x", "r"}


@effect("", "nodes_to_exclude")
def _nodes_to_exclude() -> None:
    assert set(weight_types(quantized(nodes_to_exclude=["head"]))) == {"w1", "w2", "stem/bias", "inner/bias"}
    assert set(weight_types(quantized(nodes_to_exclude=["^(stem|head).*"]))) == {"w2", "inner/bias"}


@effect("", "subgraphs_to_exclude")
def _subgraphs() -> None:
    assert set(weight_types(quantized(subgraphs_to_exclude=[(["stem"], ["inner"])]))) == {"w3", "head/bias"}


@effect("", "specific_tensor_precision")
@effect("extra", "MixedPrecisionTensor")
def _tensors() -> None:
    named = {QuantType.QInt8: ["r"], VitisQuantType.QInt16: ["t"]}
    found = types(quantized(specific_tensor_precision=True, extra_options={"MixedPrecisionTensor": named}))
    assert (found["r"], found["t"], found["x"]) == ({"INT8"}, {"INT16"}, {"INT8"})


@effect("", "execution_providers")
def _providers(monkeypatch) -> None:
    asked, opened = [], ort.InferenceSession
    monkeypatch.setattr(
        ort, "InferenceSession", lambda *given, **also: asked.append(also.get("providers")) or opened(*given, **also)
    )
    wanted = ["AzureExecutionProvider", "CPUExecutionProvider"]
    quantized(execution_providers=wanted)
    assert wanted in asked


@effect("", "per_channel")
def _per_channel() -> None:
    for per_channel, rank in ((True, 1), (False, 0)):
        assert scales(quantized(per_channel=per_channel))["w1/a8w8"].ndim == rank


@effect("", "optimize_model")
def _optimize() -> None:
    model = build(
        "(float[N,3,4,4] x) => (float[N,4,4,4] y) { a = Conv(x, w)  y = BatchNormalization(a, s, t, m, v) }",
        {"w": (4, 3, 1, 1), "s": (4,), "t": (4,), "m": (4,), "v": np.ones(4, np.float32)},
    )
    kinds = [{node.op_type for node in quantized(model, optimize_model=given).graph.node} for given in (True, False)]
    assert ["BatchNormalization" in found for found in kinds] == [False, True]


@effect("", "use_external_data_format")
def _external(tmp_path) -> None:
    config = QuantizationConfig(use_external_data_format=True, print_summary=False)
    ModelQuantizer(Config(config)).quantize_model(MODEL, tmp_path / "out.onnx", Reader())
    assert (tmp_path / "out.onnx.data").stat().st_size
    assert onnx.load(tmp_path / "out.onnx").graph.node


@effect("", "include_cle")
def _equalization() -> None:
    ranges = [
        [
            np.abs(constants(quantized(CHAIN, include_cle=given), "/a8w8/codes")[name]).max(axis=(1, 2, 3))
            for name in ("w1",)
        ]
        for given in (True, False)
    ]
    spread = [float(found[0].max() / found[0].min()) for found in ranges]
    assert spread[0] < spread[1]


@effect("", "include_auto_mp")
@effect("extra", "AutoMixprecision")
def _auto() -> None:
    assert not narrowed(quantized(activation_type=VitisQuantType.QInt16))
    assert narrowed(auto(ExcludeIndices=[0]))


@effect("", "print_summary")
def _summary(capsys) -> None:
    quantized(print_summary=True)
    assert "layers" in capsys.readouterr().out
    quantized(print_summary=False)
    assert not capsys.readouterr().out


@effect("", "ignore_warnings")
def _warnings() -> None:
    def grumbling(items) -> float:
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        return 1.0

    for ignored in (True, False):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            auto(fields={"ignore_warnings": ignored}, Top1AccTarget=1.0, EvaluateFunction=grumbling)
        assert any(str(one.message) == "old" for one in caught) is not ignored


@effect("", "extra_options")
def _extra() -> None:
    assert EXTRA_FIELDS  # each has a check of its own


# ---- keys of extra_options


@effect("extra", "PowerOfTwoRounding")
def _rounding() -> None:
    found = [
        scales(quantized(calibrate_method=PowerOfTwoMethod.NonOverflow, extra_options={"PowerOfTwoRounding": rounding}))
        for rounding in ("up", "nearest")
    ]
    ratios = {float(found[0][name] / found[1][name]) for name in found[0] if "bias" not in name}
    assert ratios == {1.0, 2.0}


@effect("extra", "Percentile")
def _percentile() -> None:
    found = [
        scales(quantized(calibrate_method=CalibrationMethod.Percentile, extra_options={"Percentile": share}))["x/a8"]
        for share in (95.0, 100.0)
    ]
    assert found[0] < found[1] / 1.2


@effect("extra", "ActivationSymmetric")
def _symmetric() -> None:
    for symmetric, zero in ((True, 0), (False, -128)):
        model = quantized(extra_options={"ActivationSymmetric": symmetric})
        named = next(node.input[2] for node in model.graph.node if node.input[1:2] == ["r/a8/scale"])
        assert int(constants(model, "")[named]) == zero


@effect("extra", "CalibDataSize")
def _calibration_size() -> None:
    few = quantized(extra_options={"CalibDataSize": 4})
    assert few == quantized(count=4)
    assert scales(few)["x/a8"] < scales(quantized())["x/a8"]


@effect("extra", "Int32Bias")
def _int32_bias() -> None:
    for given, kind in ((True, "INT32"), (False, "INT8")):
        assert weight_types(quantized(extra_options={"Int32Bias": given}))["stem/bias"] == kind


# ---- keys of AutoMixprecision


@effect("auto", "DataSize")
def _data_size() -> None:
    sizes = []
    auto(DataSize=4, Top1AccTarget=1.0, EvaluateFunction=lambda items: sizes.append([len(i[0]) for i in items]) or 1.0)
    assert set(map(tuple, sizes)) == {(3, 1)}


@effect("auto", "TargetOpType")
def _target_ops() -> None:
    assert narrowed(auto(CHAIN, L2Target=1e3, TargetOpType=["Gemm"])) == {"e", "d"} & narrowed(
        auto(CHAIN, L2Target=1e3)
    )
    assert {"x", "a1"} <= narrowed(auto(CHAIN, L2Target=1e3, TargetOpType={"Conv"}))


@effect("auto", "TargetQuantType")
def _target_type() -> None:
    given = {"ActTargetQuantType": None, "TargetQuantType": QuantType.QUInt8, "TargetIndices": [0]}
    found = auto(fields={"weight_type": VitisQuantType.QInt16}, **given)
    assert types(found)["x"] == {"UINT8"}
    assert weight_types(found)["w1"] == "INT16"  # activations alone follow it


@effect("auto", "ActTargetQuantType")
def _activation_target() -> None:
    assert types(auto(TargetIndices=[0], ActTargetQuantType=QuantType.QUInt8))["x"] == {"UINT8"}


@effect("auto", "WeightTargetQuantType")
def _weight_target() -> None:
    found = auto(TargetIndices=[0], ActTargetQuantType=None, WeightTargetQuantType=QuantType.QInt4)
    assert (weight_types(found)["w1"], weight_types(found)["w2"]) == ("INT4", "INT8")
    assert types(found)["x"] == {"INT16"}


@effect("auto", "BiasTargetQuantType")
def _bias_target() -> None:
    for given, kind in ((None, "INT32"), (VitisQuantType.QInt32, "INT32"), (QuantType.QInt8, "INT8")):
        found = weight_types(auto(TargetIndices=[0], BiasTargetQuantType=given))
        assert (found["stem/bias"], found["head/bias"]) == (kind, "INT32")
    both = auto(
        fields={"extra_options": {"Int32Bias": False}}, TargetIndices=[0], WeightTargetQuantType=QuantType.QInt4
    )
    assert [weight_types(both)[name] for name in ("stem/bias", "head/bias")] == ["INT4", "INT8"]


@effect("auto", "TargetTensors")
def _target_tensors() -> None:
    assert narrowed(auto(TargetTensors=["t"])) == {"t"}


@effect("auto", "TargetIndices")
def _target_indices() -> None:
    assert narrowed(auto(TargetIndices=[0])) == {"x"}
    with pytest.warns(UserWarning, match="narrows every layer"):
        assert narrowed(auto()) == {"x", "r", "t"}


@effect("auto", "ExcludeIndices")
def _exclude_indices() -> None:
    assert narrowed(auto(ExcludeIndices=[0])) == {"r", "t"}


@effect("auto", "OutputIndex")
def _output_index() -> None:
    model, shapes = MODELS["layer-is-output"](), []
    for index in (0, 1):
        auto(
            model,
            OutputIndex=index,
            Top1AccTarget=1.0,
            EvaluateFunction=lambda items: shapes.append(items[0][0].shape[1]) or 1.0,
        )
    assert list(dict.fromkeys(shapes)) == [4, 2]


@effect("auto", "L2Target")
def _l2_target() -> None:
    assert narrowed(auto(L2Target=100.0)) == {"x", "r", "t"}
    part = auto(L2Target=0.035)
    assert narrowed(part) and narrowed(part) < {"x", "r", "t"}
    assert _l2(part) <= 0.035


def _l2(model: onnx.ModelProto) -> float:
    """Mean over the samples, with all optimizations off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    feeds = samples(MODEL, 11, 1)
    found, expected = (
        ort.InferenceSession(one.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
        for one in (model, MODEL)
    )
    return float(np.linalg.norm((found - expected).reshape(11, -1), axis=1).mean())


@effect("auto", "Top1AccTarget")
@effect("auto", "EvaluateFunction")
def _accuracy_target() -> None:
    seen: list[np.ndarray] = []

    def closeness(items) -> float:
        seen.append(np.concatenate([item[0] for item in items]))
        return 1.0 - float(np.abs(seen[-1] - seen[0]).mean())

    tight = auto(Top1AccTarget=0.002, EvaluateFunction=closeness)
    assert np.abs(seen[-1] - seen[0]).mean() <= 0.002
    seen.clear()
    assert narrowed(tight) < narrowed(auto(Top1AccTarget=0.1, EvaluateFunction=closeness)) == {"x", "r", "t"}


@effect("auto", "NumTarget")
def _number() -> None:
    alone = [_l2(auto(TargetIndices=[index])) for index in range(3)]
    order = [("x", "r", "t")[index] for index in np.argsort(alone)]
    for count in (1, 2, 3):
        assert narrowed(auto(NumTarget=count)) == set(order[:count])
    assert narrowed(auto(NumTarget=9)) == set(order)


@effect("auto", "NoInputQDQShared")
def _shared() -> None:
    # `inner` reads r, and so does the Add.
    for options in ({"L2Target": 100.0}, {"ExcludeIndices": [0]}, {"TargetIndices": [1, 2]}, {"NumTarget": 3}):
        assert "r" in narrowed(auto(**options, NoInputQDQShared=False))
        assert "r" not in narrowed(auto(**options, NoInputQDQShared=True))
        assert "t" in narrowed(auto(**options, NoInputQDQShared=True))
    assert AUTO_MIX_FIELDS["NoInputQDQShared"].default is True


@effect("auto", "DualQuantNodes")
def _dual() -> None:
    for options in ({"TargetIndices": [0]}, {"L2Target": 100.0}):
        assert types(auto(**options))["x"] == {"INT8"}
        assert types(auto(**options, DualQuantNodes=True))["x"] == {"INT8", "INT16"}
