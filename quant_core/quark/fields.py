"""Every field and option of Quark, its default, and what becomes of it: honoured, or refused with what to use instead.

None is accepted and ignored: what is refused may be given at the value beside it, which asks for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

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
    "input_nodes": Field(_NONE, "name the nodes outside in nodes_to_exclude"),
    "output_nodes": Field(_NONE, "name the nodes outside in nodes_to_exclude"),
    "op_types_to_quantize": Field(_NONE),
    "nodes_to_quantize": Field(_NONE),
    "extra_op_types_to_quantize": Field(_NONE, "every operator that can be quantized is"),
    "nodes_to_exclude": Field(_NONE),
    "subgraphs_to_exclude": Field(_NONE, "name the nodes in nodes_to_exclude"),
    "specific_tensor_precision": Field(False),
    "execution_providers": Field(("CPUExecutionProvider",), "calibration and measurements run on the CPU"),
    "per_channel": Field(False),
    "reduce_range": Field(False, "use a narrower weight_type, or calibrate_method"),
    "optimize_model": Field(True, "constants and batch norms are always folded: scales belong to the folded weights"),
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
    "debug_mode": Field(False, "read the report of quant_core.layer_wise"),
    "crypto_mode": Field(False, "encrypt the file afterwards"),
    "print_summary": Field(True),
    "ignore_warnings": Field(True, "use Python's warnings filters"),
    "extra_options": Field({}),
}
"""The fields of QuantizationConfig."""

EXTRA_FIELDS: Mapping[str, Field] = {
    "MixedPrecisionTensor": Field({}),
    "AutoMixprecision": Field({}),
    "PowerOfTwoRounding": Field("up"),
    "Percentile": Field(99.999),
    "ActivationSymmetric": Field(True),
    "WeightSymmetric": Field(True, "use an unsigned weight_type"),
    "Int32Bias": Field(True, "biases are int32 at the scale of input times weight"),
}
"""The keys of extra_options."""

AUTO_MIX_FIELDS: Mapping[str, Field] = {
    "DataSize": Field(None),
    "TargetOpType": Field(("Conv", "ConvTranspose", "Gemm", "MatMul")),
    "TargetQuantType": Field(None),
    "ActTargetQuantType": Field(None),
    "WeightTargetQuantType": Field(None),
    "BiasTargetQuantType": Field(None, "biases are int32 at the scale of input times weight"),
    "TargetTensors": Field(_NONE),
    "TargetIndices": Field(_NONE),
    "ExcludeIndices": Field(_NONE),
    "OutputIndex": Field(0),
    "L2Target": Field(None),
    "Top1AccTarget": Field(None),
    "EvaluateFunction": Field(None),
    "NumTarget": Field(0, "rank with L2Target, then name the layers in TargetIndices"),
    "NoInputQDQShared": Field(False, "a layer whose input has other readers gets a pair of its own"),
    "DualQuantNodes": Field(False, "a narrow pair stands behind a wide one just where the tensor has wide readers"),
    "AutoMixUseFastFT": Field(False, "use quant_core with round_weights='gptq' and correct_bias=True"),
}
"""The keys of extra_options['AutoMixprecision']."""


def checked(given: object, fields: Mapping[str, Field], where: str) -> dict[str, object]:
    """All fields, with what was given or else the default.

    Raises InputError for a key that is none, UnsupportedError for one that is not built.
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
            raise UnsupportedError(f"{where}: {name}={value!r} is not built; {field.instead}")
    return {name: given.get(name, field.default) for name, field in fields.items()}


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
