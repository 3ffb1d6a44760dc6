"""For those who come from AMD Quark: its names, with the same meaning. Change the import and the scripts run.

Layer-wise mixed precision:

```python layer-wise
from quant_core.quark import (ModelQuantizer, Config, QuantizationConfig, QuantType, QuantFormat, CalibrationMethod,
                              PowerOfTwoMethod, VitisQuantFormat, VitisQuantType)
quant_config = QuantizationConfig(
    calibrate_method=PowerOfTwoMethod.NonOverflow, quant_format=VitisQuantFormat.QDQ,
    activation_type=VitisQuantType.QInt16, weight_type=QuantType.QInt8, specific_tensor_precision=True,
    extra_options={"MixedPrecisionTensor": {QuantType.QInt8: ["tensor_0", "tensor_1"], VitisQuantType.QInt16: ["tensor_2"]}})
ModelQuantizer(Config(global_quant_config=quant_config)).quantize_model("float.onnx", "mixed.onnx", reader)
```

Automatic mixed precision:

```python automatic
from quant_core.quark import (ModelQuantizer, Config, QuantizationConfig, QuantType, QuantFormat, CalibrationMethod,
                              PowerOfTwoMethod, VitisQuantFormat, VitisQuantType)
quant_config = QuantizationConfig(
    calibrate_method=CalibrationMethod.Percentile, quant_format=VitisQuantFormat.QDQ,
    activation_type=VitisQuantType.QInt16, weight_type=QuantType.QInt8, include_auto_mp=True,
    extra_options={"AutoMixprecision": {"ActTargetQuantType": QuantType.QInt8, "WeightTargetQuantType": QuantType.QInt8,
                                         "OutputIndex": 0, "Top1AccTarget": 0.1, "EvaluateFunction": top1_acc}})
ModelQuantizer(Config(global_quant_config=quant_config)).quantize_model("float.onnx", "mixed.onnx", reader)
```

The same in narrowcast's own words, with evaluation data beside the calibration data and a report:

```python
from quant_core import layer_wise
layer_wise("float.onnx", tensors={"int8": ["tensor_0", "tensor_1"]}, calibration=reader, output="out")
```

What differs, and why:

* QuantFormat.QOperator is ONNX Runtime's own conversion (QLinearConv, QLinearMatMul, QGemm, ...), for 8-bit types; a
  layer that it has no integer operator for is an error that names it. The file that is written is the one that is scored.
* Nothing is ignored: a field that is not supported raises UnsupportedError (a NotImplementedError) that names it and says
  what to use instead; an unknown key is an error that names the nearest one. `fields` lists them all.
* NonOverflow rounds a scale's exponent up, so that nothing overflows; Quark rounds it to the nearest, which saturates
  up to 29% of the range. `extra_options={"PowerOfTwoRounding": "nearest"}` gives that rule.
* Activations are symmetric unless `extra_options={"ActivationSymmetric": False}`.
* A layer is ranked by the L2 distance that narrowing it alone leaves, also where Top1AccTarget is the target: on a
  few images most layers lose no accuracy at all. TargetIndices count layers in graph order.
* NoInputQDQShared=True (the default, as there) skips a layer whose input has other readers; with False it gets a narrow
  pair of its own behind the wide one, and the other readers keep what they had.
* DualQuantNodes puts a narrow pair behind the wide one of activations alone: weights are always quantized from their
  float values, never from codes.
* A bias that BiasTargetQuantType or Int32Bias=False gives the type of the weights has a scale of its own, so that it
  does not overflow.
* The file that is written is the one that was measured, and a target that the wide model itself misses is a
  TargetError, with nothing written.
* As there, plans are scored on the calibration reader; `quant_core.auto_mixed_precision` takes other data for it.
"""  # noqa: E501

from quant_core.quark.names import (
    CalibrationMethod,
    PowerOfTwoMethod,
    QuantFormat,
    QuantType,
    VitisQuantFormat,
    VitisQuantType,
)
from quant_core.quark.quantizer import ModelQuantizer
from quant_core.quark.readers import CalibrationDataReader
from quant_core.quark.translation import Config, QuantizationConfig

__all__ = [
    "CalibrationDataReader",
    "CalibrationMethod",
    "Config",
    "ModelQuantizer",
    "PowerOfTwoMethod",
    "QuantFormat",
    "QuantType",
    "QuantizationConfig",
    "VitisQuantFormat",
    "VitisQuantType",
]
