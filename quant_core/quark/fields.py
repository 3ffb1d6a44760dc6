"""Every field and option of Quark, its default, and what becomes of it: honoured, or refused with what to use instead.

None is accepted and ignored: what is refused may be given at the value beside it, which asks for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from quant_core.errors import InputError, UnsupportedError
from quant_core.quark.names import CalibrationMethod, QuantFormat, QuantType

__all__ = ["AUTO_MIX_FIELDS", "EXTRA_FIELDS", "QUANTIZATION_FIELDS", "Field", "checked"]


@dataclass(frozen=True)
class Field:
    """One field of Quark."""

    default: object
    """What it is when it is not given; for a refused field the one value that may be given."""
    instead: str | None = None
    """For a refused field, what to use or know instead; None for one that is honoured."""


_NONE: tuple[str, ...] = ()

QUANTIZATION_FIELDS: Mapping[str, Field] = {
    "calibrate_method": Field(CalibrationMethod.MinMax),
    "quant_format": Field(QuantFormat.QDQ),
    "activation_type": Field(QuantType.QInt8),
    "weight_type": Field(QuantType.QInt8),
    "input_nodes": Field(_NONE),
    "output_nodes": Field(_NONE),
    "op_types_to_quantize": Field(_NONE),
    "nodes_to_quantize": Field(_NONE),
    "extra_op_types_to_quantize": Field(_NONE),
    "nodes_to_exclude": Field(_NONE),
    "subgraphs_to_exclude": Field(_NONE),
    "specific_tensor_precision": Field(False),
    "execution_providers": Field(("CPUExecutionProvider",)),
    "per_channel": Field(False),
    "reduce_range": Field(False, "use a narrower weight_type, or calibrate_method"),
    "optimize_model": Field(True),
    "use_dynamic_quant": Field(False, "give calibration data: scales are static"),
    "use_external_data_format": Field(False),
    "convert_fp16_to_fp32": Field(False, "give the model in float32"),
    "convert_nchw_to_nhwc": Field(False, "convert the model before"),
    "include_sq": Field(False, "use include_cle"),
    "include_rotation": Field(False, "use include_cle"),
    "include_cle": Field(True),
    "include_auto_mp": Field(False),
    "include_fast_ft": Field(False, "use quant_core with round_weights='gptq' and correct_bias=True"),
    "enable_npu_cnn": Field(False, "use PowerOfTwoMethod and QInt8"),
    "enable_npu_transformer": Field(False, "use the types of the device, such as QInt16 activations"),
    "debug_mode": Field(False, "read the report of quant_core.pipeline.layer_wise"),
    "crypto_mode": Field(False, "encrypt the file afterwards"),
    "print_summary": Field(True),
    "ignore_warnings": Field(True),
    "extra_options": Field({}),
}
"""The fields of QuantizationConfig."""

_NPU = """ConvertBNToConv ConvertReduceMeanToGlobalAvgPool SplitLargeKernelPool ConvertSplitToSlice ConvertClipToRelu
    SimulateDPU ConvertLeakyReluToDPUVersion ConvertSigmoidToHardSigmoid ConvertHardSigmoidToDPUVersion
    ConvertAvgPoolToDPUVersion ConvertClipToDPUVersion ConvertReduceMeanToDPUVersion ConvertSoftmaxToDPUVersion
    NPULimitationCheck AdjustShiftCut AdjustShiftBias AdjustShiftRead AdjustShiftWrite AdjustHardSigmoid
    AdjustShiftSwish AlignConcat AlignPool AlignPad AlignSlice AlignTranspose AlignReshape ReplaceClip6Relu
    RemoveQDQInstanceNorm RemoveQDQMulAdd RemoveQDQConvGelu""".split()
_WITH_FOLDING = "activations are fused, and constants and batch norms folded, as optimize_model says"
_BLOCK_TYPES = "use QInt8 or QBFloat16: block floating point is not a type here"

EXTRA_FIELDS: Mapping[str, Field] = {
    "MixedPrecisionTensor": Field({}),
    "AutoMixprecision": Field({}),
    "PowerOfTwoRounding": Field("up"),
    "Percentile": Field(99.999),
    "ActivationSymmetric": Field(True),
    "CalibDataSize": Field(None),
    "Int32Bias": Field(True),
    "WeightSymmetric": Field(True, "use an unsigned weight_type"),
    "Int16Bias": Field(False, "use Int32Bias=False with 16-bit weights"),
    "QuantizeBias": Field(True, "biases of quantized layers are always quantized; see Int32Bias"),
    "UseUnsignedReLU": Field(False, "use ActivationSymmetric=False"),
    "CalibTensorRangeSymmetric": Field(False, "use ActivationSymmetric"),
    "CalibMovingAverage": Field(False, "use calibrate_method=Percentile"),
    "MinMSEMode": Field("All", "the error is that over all calibration data"),
    "Int16Scale": Field(False, "use PowerOfTwoMethod"),
    "UseRandomData": Field(False, "give calibration data: ranges of noise say nothing"),
    "MatMulConstBOnly": Field(False, "name the others in nodes_to_exclude"),
    "AddQDQPairToWeight": Field(False, "weights are stored as codes"),
    "DedicatedQDQPair": Field(False, "a tensor has one pair for each type it is read in"),
    "OpTypesToExcludeOutputQuantization": Field(_NONE, "name the nodes in nodes_to_exclude"),
    "WeightsOnly": Field(False, "use quant_core with the precision of the weights"),
    "AlignEltwiseQuantType": Field(False, "constant operands have the activation type anyway"),
    "QuantizeAllOpTypes": Field(False, "every operator that can be quantized is"),
    "CLESteps": Field(1, "channels are equalized until they are alike"),
    "UseGPTQ": Field(False, "use quant_core with round_weights='gptq'"),
    "UseMatMulNBits": Field(False, "use QInt4 weights, in quant_core with block_size"),
    "FastFinetune": Field({}, "use quant_core with round_weights='gptq' and correct_bias=True"),
    "SmoothAlpha": Field(0.5, "use include_cle"),
    "SimplifyModel": Field(True, _WITH_FOLDING),
    "FoldBatchNorm": Field(True, _WITH_FOLDING),
    "FoldRelu": Field(False, _WITH_FOLDING),
    "ConvertOpsetVersion": Field(None, "models are brought to opset 21 where that is faithful"),
    "FixShapes": Field("", "fix the shapes of the model before"),
    "SaveTensorHistFig": Field(False, "read the report of quant_core.pipeline.layer_wise"),
    "BFPAttributes": Field({}, _BLOCK_TYPES),
    "MXAttributes": Field({}, _BLOCK_TYPES),
    **{name: Field(False, "it belongs to enable_npu_cnn, which is not supported") for name in _NPU},
}
"""The keys of extra_options."""

AUTO_MIX_FIELDS: Mapping[str, Field] = {
    "DataSize": Field(None),
    "TargetOpType": Field(("Conv", "ConvTranspose", "Gemm", "MatMul")),
    "TargetQuantType": Field(None),
    "ActTargetQuantType": Field(None),
    "WeightTargetQuantType": Field(None),
    "BiasTargetQuantType": Field(None),
    "TargetTensors": Field(_NONE),
    "TargetIndices": Field(_NONE),
    "ExcludeIndices": Field(_NONE),
    "OutputIndex": Field(0),
    "L2Target": Field(None),
    "Top1AccTarget": Field(None),
    "EvaluateFunction": Field(None),
    "NumTarget": Field(0),
    "NoInputQDQShared": Field(True),
    "DualQuantNodes": Field(False),
    "AutoMixUseFastFT": Field(False, "use quant_core with round_weights='gptq' and correct_bias=True"),
}
"""The keys of extra_options['AutoMixprecision']."""


def checked(given: object, fields: Mapping[str, Field], where: str) -> dict[str, Any]:
    """All fields, with what was given or else the default.

    Raises InputError for a key that is none, UnsupportedError for one that is not supported.
    """
    if not isinstance(given, Mapping):
        raise InputError(f"{where} must be a dict, not {given!r}")
    for name, value in given.items():
        if name not in fields:
            near = get_close_matches(str(name), fields, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(fields)}"
            raise InputError(f"{where}: {name!r} is not known; {hint}")
        field = fields[name]
        if field.instead is not None and _plain(value) != field.default:
            raise UnsupportedError(f"{where}: {name}={value!r} is not supported; {field.instead}")
    return {name: given.get(name, field.default) for name, field in fields.items()}


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
