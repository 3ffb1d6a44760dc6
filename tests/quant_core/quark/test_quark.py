"""Scripts written for AMD Quark: those of the migration page, and what they may not say."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import quant_core.quark as page
from quant_core import InputError, TargetError, UnsupportedError
from quant_core.quark import (
    Config,
    ModelQuantizer,
    QuantizationConfig,
    QuantType,
    VitisQuantType,
)
from tests.models import samples
from tests.quant_core.quark.scripts import MODEL, Reader, narrowed, quantized, types


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
    # `inner` shares its input with the Add, and NoInputQDQShared leaves it alone.
    assert (narrowed(model) == {"x", "t"}) is all_narrow
    assert narrowed(model)


@pytest.mark.parametrize("limit", [0.01, 1e-12], ids=["wider layers would meet it", "nothing would meet it"])
def test_a_target_the_wide_model_misses_writes_nothing(tmp_path, limit):
    options = {"AutoMixprecision": {"ActTargetQuantType": QuantType.QInt8, "L2Target": limit}}
    config = QuantizationConfig(
        activation_type=VitisQuantType.QInt16, include_auto_mp=True, extra_options=options, print_summary=False
    )
    with pytest.raises(TargetError):
        ModelQuantizer(Config(config)).quantize_model(MODEL, tmp_path / "out.onnx", Reader())
    assert not list(tmp_path.iterdir())


def auto(**options) -> dict:
    mix = {"ActTargetQuantType": QuantType.QInt8} | options
    return {"include_auto_mp": True, "extra_options": {"AutoMixprecision": mix}}


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
        ({"op_types_to_quantize": ["Cnov"]}, "did you mean 'Conv'"),
        ({"execution_providers": ["CUDAExecutionProvider"]}, "'CUDAExecutionProvider' is not available here"),
        ({"extra_options": {"CalibDataSize": 0}}, "CalibDataSize must be a number of at least 1, not 0"),
        (auto(DataSize=0), "DataSize must be a number of at least 1, not 0"),
        (auto(NumTarget=-1), "NumTarget must be a number of at least 1, not -1"),
        (auto(NumTarget=1, L2Target=1.0), "L2Target and NumTarget exclude each other"),
        (auto(TargetTensors=["t"], DualQuantNodes=True), "TargetTensors and DualQuantNodes exclude each other"),
        (
            auto(BiasTargetQuantType=VitisQuantType.QInt16),
            r"must be the type of the weights \(int8\) or int32, not int16",
        ),
        (auto(TargetOpType=["Relu"]), "TargetOpType 'Relu' has no weights to narrow"),
        (auto(Top1AccTarget=0.1), "Top1AccTarget and EvaluateFunction go together"),
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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"nodes_to_exclude": ["stemm"]}, r"nodes_to_exclude: nothing quantized is 'stemm'; did you mean 'stem'\?"),
        ({"nodes_to_exclude": ["^tail.*"]}, r"nodes_to_exclude: no node matches '\^tail\.\*'"),
        ({"nodes_to_exclude": ["(.*"]}, r"'\(\.\*' is not a regular expression"),
        ({"nodes_to_quantize": ["nose"]}, "nodes_to_quantize: nothing quantized is 'nose'"),
        ({"subgraphs_to_exclude": [("stem", "inner")]}, r"give pairs such as \(\['first'\], \['last'\]\)"),
        ({"subgraphs_to_exclude": [(["stem"], ["iner"])]}, "did you mean 'inner'"),
        (auto(TargetIndices=[9]), "there is no layer 9; there are 3"),
        (auto(TargetIndices=[0], TargetOpType=["Gemm"]), "there is no layer 0; there are 0"),
        (auto(L2Target=1.0, OutputIndex=7), "output"),
    ],
)
def test_what_the_model_does_not_have_is_named(fields, message):
    with pytest.raises(InputError, match=message):
        quantized(**{"activation_type": VitisQuantType.QInt16} | fields)


def test_further_arguments_of_quantize_model(tmp_path):
    quantizer = ModelQuantizer(Config(QuantizationConfig(print_summary=False)))
    np.savez(tmp_path / "data.npz", **samples(MODEL, 11, 1))
    by_reader = quantizer.quantize_model(MODEL, None, Reader())
    assert quantizer.quantize_model(MODEL, calibration_data_path=tmp_path / "data.npz") == by_reader
    with pytest.raises(InputError, match="calibration_data_reader and calibration_data_path exclude each other"):
        quantizer.quantize_model(MODEL, None, Reader(), str(tmp_path / "data.npz"))
    with pytest.raises(InputError, match="calibration_data_reader cannot be a NoneType"):
        quantizer.quantize_model(MODEL)
    with pytest.raises(UnsupportedError, match="algorithms are not supported; use include_cle"):
        quantizer.quantize_model(MODEL, None, Reader(), algorithms=[object()])
    assert quantizer.quantize_model(MODEL, None, Reader(), algorithms=[]) == by_reader
