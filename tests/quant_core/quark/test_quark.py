"""Scripts written for AMD Quark: those of the migration page, and every field and option there is."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import quant_core.quark as page
from quant_core import InputError, TargetError, UnsupportedError
from quant_core.quark import (
    CalibrationDataReader,
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
from tests.models import MODELS, samples

MODEL = MODELS["residual"]()


class Reader(CalibrationDataReader):
    """Items of three samples, of which the last has two."""

    def __init__(self, count: int = 11) -> None:
        values = samples(MODEL, count, 1)["x"]
        self.items = iter([{"x": values[start : start + 3]} for start in range(0, count, 3)])

    def get_next(self):
        return next(self.items, None)


def quantized(**fields) -> onnx.ModelProto:
    given = {"print_summary": False, "include_cle": False} | fields
    return ModelQuantizer(Config(QuantizationConfig(**given))).quantize_model(MODEL, None, Reader())


def auto(**options) -> onnx.ModelProto:
    given = {"ActTargetQuantType": QuantType.QInt8} | options
    return quantized(
        activation_type=VitisQuantType.QInt16, include_auto_mp=True, extra_options={"AutoMixprecision": given}
    )


def types(model: onnx.ModelProto) -> dict[str, set[str]]:
    """Types of the pairs of each activation, by its name in the float model."""
    zeros = {tensor.name: onnx.TensorProto.DataType.Name(tensor.data_type) for tensor in model.graph.initializer}
    found: dict[str, set[str]] = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            found.setdefault(node.output[0].split("/")[0], set()).add(zeros[node.input[2]])
    return found


def narrowed(model: onnx.ModelProto) -> set[str]:
    return {name for name, kinds in types(model).items() if "INT8" in kinds}


def script(name: str) -> str:
    """A script of the migration page."""
    (found,) = re.findall(rf"```python {name}\n(.*?)```", page.__doc__, re.S)
    return str(found)


def test_the_layer_wise_script_of_the_page_names_types_and_no_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(MODEL, "float.onnx")
    text = script("layer-wise").replace("tensor_0", "r").replace("tensor_1", "t").replace("tensor_2", "x")
    exec(text, {"reader": Reader()})
    found = types(onnx.load("mixed.onnx"))
    assert {name for name, kinds in found.items() if kinds == {"INT8"}} == {"r", "t"}
    assert all(kinds == {"INT16"} for name, kinds in found.items() if name not in ("r", "t"))


@pytest.mark.parametrize(("allowed", "all_narrow"), [(0.1, True), (0.002, False)], ids=["as on the page", "tighter"])
def test_the_automatic_script_of_the_page_meets_its_target(tmp_path, monkeypatch, allowed, all_narrow):
    monkeypatch.chdir(tmp_path)
    onnx.save(MODEL, "float.onnx")
    seen = []

    def top1_acc(outputs):
        assert [len(item[0]) for item in outputs] == [3, 3, 3, 2]
        seen.append(np.concatenate([item[0] for item in outputs]))
        return 1.0 - float(np.abs(seen[-1] - seen[0]).mean())

    text = script("automatic").replace('"Top1AccTarget": 0.1', f'"Top1AccTarget": {allowed}')
    exec(text, {"reader": Reader(), "top1_acc": top1_acc})
    model = onnx.load("mixed.onnx")
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.abs(session.run(None, samples(MODEL, 11, 1))[0] - seen[0]).mean() <= allowed
    assert (narrowed(model) == {"x", "r", "t"}) is all_narrow
    assert narrowed(model)


def test_a_target_the_wide_model_misses_writes_nothing(tmp_path):
    options = {"AutoMixprecision": {"ActTargetQuantType": QuantType.QInt8, "L2Target": 1e-12}}
    config = QuantizationConfig(
        activation_type=VitisQuantType.QInt16, include_auto_mp=True, extra_options=options, print_summary=False
    )
    with pytest.raises(TargetError):
        ModelQuantizer(Config(config)).quantize_model(MODEL, tmp_path / "out.onnx", Reader())
    assert not list(tmp_path.iterdir())


DOCUMENTED = """calibrate_method quant_format activation_type weight_type input_nodes output_nodes op_types_to_quantize
    nodes_to_quantize extra_op_types_to_quantize nodes_to_exclude subgraphs_to_exclude specific_tensor_precision
    execution_providers per_channel reduce_range optimize_model use_dynamic_quant use_external_data_format
    convert_fp16_to_fp32 convert_nchw_to_nhwc include_sq include_rotation include_cle include_auto_mp include_fast_ft
    enable_npu_cnn enable_npu_transformer debug_mode crypto_mode print_summary ignore_warnings extra_options""".split()
DOCUMENTED_AUTO = """DataSize TargetOpType TargetQuantType ActTargetQuantType WeightTargetQuantType BiasTargetQuantType
    TargetTensors TargetIndices ExcludeIndices OutputIndex L2Target Top1AccTarget EvaluateFunction NumTarget
    NoInputQDQShared DualQuantNodes""".split()


def test_every_documented_field_is_in_the_table():
    assert set(DOCUMENTED) == set(QUANTIZATION_FIELDS)
    assert set(DOCUMENTED_AUTO) | {"AutoMixUseFastFT"} == set(AUTO_MIX_FIELDS)


EFFECTS = {
    "calibrate_method": PowerOfTwoMethod.NonOverflow,
    "activation_type": QuantType.QUInt8,
    "weight_type": QuantType.QInt4,
    "op_types_to_quantize": ["Conv"],
    "nodes_to_quantize": ["stem"],
    "nodes_to_exclude": ["inner"],
    "per_channel": True,
    "include_cle": True,
}
TESTED_ALONE = {
    *("quant_format", "specific_tensor_precision", "use_external_data_format"),
    *("include_auto_mp", "print_summary", "extra_options"),
}
HONOURED = [name for name, field in QUANTIZATION_FIELDS.items() if field.instead is None]


@pytest.mark.parametrize("name", [name for name in HONOURED if name not in TESTED_ALONE])
def test_an_honoured_field_changes_the_model(name):
    if name == "include_cle":
        assert _chain(include_cle=True) != _chain(include_cle=False)
    else:
        assert quantized(**{name: EFFECTS[name]}).SerializeToString() != quantized().SerializeToString()


def _chain(**fields) -> bytes:
    model = MODELS["chain"]()
    reader = Reader()
    reader.items = iter([samples(model, 4)])
    config = QuantizationConfig(print_summary=False, **fields)
    return ModelQuantizer(Config(config)).quantize_model(model, None, reader).SerializeToString()


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (where, name)
        for where, fields in (("", QUANTIZATION_FIELDS), ("extra", EXTRA_FIELDS), ("auto", AUTO_MIX_FIELDS))
        for name, field in fields.items()
        if field.instead is not None
    ],
)
def test_a_refused_field_is_named_and_passes_at_its_default(where, name):
    fields = {"": QUANTIZATION_FIELDS, "extra": EXTRA_FIELDS, "auto": AUTO_MIX_FIELDS}[where]

    def given(value):
        mix = {"ActTargetQuantType": QuantType.QInt8, "TargetIndices": [0]} | ({name: value} if where == "auto" else {})
        extra = {"AutoMixprecision": mix} | ({name: value} if where == "extra" else {})
        return {"include_auto_mp": True, "extra_options": extra} | ({} if where else {name: value})

    QuantizationConfig(**given(fields[name].default))
    other = (not fields[name].default) if isinstance(fields[name].default, bool) else ["something"]
    with pytest.raises(NotImplementedError, match=f"{name}=.*{re.escape(fields[name].instead)}"):
        QuantizationConfig(**given(other))


def test_names_choose_what_stays_float():
    assert "t" not in types(quantized(nodes_to_exclude=["head"]))
    assert set(types(quantized(nodes_to_quantize=["stem"]))) == {"x"}
    assert "DequantizeLinear" in {node.op_type for node in quantized(op_types_to_quantize=["Conv"]).graph.node}
    with pytest.raises(InputError, match=r"nodes_to_exclude: nothing quantized is 'stemm'; did you mean 'stem'\?"):
        quantized(nodes_to_exclude=["stemm"])


def test_external_data_and_summary(tmp_path, capsys):
    config = QuantizationConfig(use_external_data_format=True, include_cle=False)
    ModelQuantizer(Config(config)).quantize_model(MODEL, tmp_path / "out.onnx", Reader())
    assert (tmp_path / "out.onnx.data").stat().st_size
    assert onnx.load(tmp_path / "out.onnx").SerializeToString()
    assert capsys.readouterr().out.strip()
    quantized()
    assert not capsys.readouterr().out


@pytest.mark.parametrize("given", list(CalibrationMethod) + list(PowerOfTwoMethod))
def test_every_method_is_honoured_or_refused(given):
    if given is CalibrationMethod.Distribution:
        with pytest.raises(UnsupportedError, match="Distribution is not built; use Percentile"):
            QuantizationConfig(calibrate_method=given)
    else:
        assert QuantizationConfig(calibrate_method=given).settings()["calibrate"] == given.value


@pytest.mark.parametrize("given", [QuantFormat.QOperator, VitisQuantFormat.FixNeuron])
def test_other_formats_are_refused(given):
    with pytest.raises(NotImplementedError, match="quant_format"):
        QuantizationConfig(quant_format=given)
    assert quantized(quant_format=VitisQuantFormat.QDQ) == quantized(quant_format=QuantFormat.QDQ)


def test_extra_options_of_ranges():
    assert quantized(extra_options={"ActivationSymmetric": False}) != quantized()
    pow2 = {"calibrate_method": PowerOfTwoMethod.NonOverflow}
    assert quantized(**pow2, extra_options={"PowerOfTwoRounding": "nearest"}) != quantized(**pow2)
    share = {"calibrate_method": CalibrationMethod.Percentile}
    assert quantized(**share, extra_options={"Percentile": 95.0}) != quantized(**share)


def test_options_of_auto_without_a_target():
    with pytest.warns(UserWarning, match="narrows every layer"):
        everything = auto()
    assert narrowed(everything) == {"x", "r", "t"}
    assert narrowed(auto(TargetIndices=[0])) == {"x"}
    assert narrowed(auto(ExcludeIndices=[0])) == {"r", "t"}
    assert narrowed(auto(TargetTensors=["t"])) == {"t"}
    assert auto(TargetIndices=[0], OutputIndex="y")
    with pytest.raises(InputError, match="there is no layer 9; there are 3"):
        auto(TargetIndices=[9])
    fallen = auto(ActTargetQuantType=None, TargetQuantType=QuantType.QInt8, TargetIndices=[0])
    assert narrowed(fallen) == {"x"}
    assert auto(WeightTargetQuantType=QuantType.QInt4, TargetIndices=[0]) != auto(TargetIndices=[0])
    with pytest.raises(InputError, match="there is no layer 0; there are 0"):
        auto(TargetIndices=[0], TargetOpType=["Gemm"])


def test_options_of_auto_with_a_target():
    assert narrowed(auto(L2Target=100.0)) == {"x", "r", "t"}
    part = narrowed(auto(L2Target=0.035))
    assert part and part < {"x", "r", "t"}
    assert narrowed(auto(L2Target=100.0, DataSize=2)) == {"x", "r", "t"}
    with pytest.raises(InputError, match="OutputIndex|output"):
        auto(L2Target=100.0, OutputIndex=7)
    sizes = []
    auto(DataSize=4, Top1AccTarget=1.0, EvaluateFunction=lambda items: sizes.append([len(i[0]) for i in items]) or 1.0)
    assert set(map(tuple, sizes)) == {(3, 1)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"per_chanel": True}, "did you mean 'per_channel'"),
        ({"extra_options": {"AutoMixPrecision": {}}}, "did you mean 'AutoMixprecision'"),
        ({"include_auto_mp": True}, "go together"),
        ({"specific_tensor_precision": True}, "go together"),
        ({"extra_options": {"MixedPrecisionTensor": {QuantType.QInt8: ["r"]}}}, "go together"),
        ({"extra_options": {"AutoMixprecision": {"L2Traget": 1}}, "include_auto_mp": True}, "did you mean 'L2Target'"),
        ({"extra_options": {"AutoMixprecision": {"L2Target": 1}}, "include_auto_mp": True}, "give ActTarget"),
        ({"activation_type": "int8"}, "neither a QuantType nor a VitisQuantType"),
        ({"extra_options": []}, "must be a dict"),
    ],
)
def test_what_is_wrong_is_named(fields, message):
    with pytest.raises(InputError, match=message):
        QuantizationConfig(**fields)


def test_tensors_that_are_unknown_or_named_twice():
    def named(mapping):
        quantized(specific_tensor_precision=True, extra_options={"MixedPrecisionTensor": mapping})

    with pytest.raises(InputError, match="'tensor:nose'"):
        named({QuantType.QInt8: ["nose"]})
    with pytest.raises(InputError, match="named twice"):
        named({QuantType.QInt8: ["r"], VitisQuantType.QInt16: ["r"]})
