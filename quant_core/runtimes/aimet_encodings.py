"""AIMET's file of encodings, version 1.0.0, which Qualcomm's converters take beside a float model.

AIMET itself (2.42) gives input and output of an AveragePool or a Concat one quantizer as it loads the file, and so one
range: empty `aimet_onnx.quantsim.op_types_to_tie_qtzrs` first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quant_core.runtimes.encoded_tensors import EncodedTensor

__all__ = ["aimet_encodings"]


def aimet_encodings(tensors: Mapping[str, Sequence[EncodedTensor]]) -> dict[str, object]:
    """Return the encodings of tensors, each as it is widest, as JSON.

    A value is (code + offset) * scale, where codes count from 0 whatever their type.
    """
    widest = [ways[0] for ways in tensors.values()]
    return {
        "version": "1.0.0",
        "activation_encodings": [_encoding(one) for one in widest if not one.is_weight],
        "param_encodings": [_encoding(one) for one in widest if one.is_weight],
    }


def _encoding(tensor: EncodedTensor) -> dict[str, object]:
    offset = tensor.lowest_code - tensor.zero_point
    return {
        "name": tensor.name,
        "dtype": "INT",
        "bw": tensor.kind.bits,
        "enc_type": "PER_TENSOR" if tensor.axis is None else "PER_CHANNEL",
        "is_sym": bool((offset == -(1 << (tensor.kind.bits - 1))).all()),
        "scale": [float(value) for value in tensor.scale],
        "offset": [float(value) for value in offset],
    }
