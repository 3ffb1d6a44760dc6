"""Rules on how tensors are held, whatever reads them, that profiles are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from quant_core.precision import DataType
from quant_core.runtimes.profile import Consequence, Rule
from quant_core.runtimes.written_model import StoredTensor, WrittenModel

__all__ = [
    "FLOAT_BIASES",
    "NO_VALUE_INFO",
    "POWER_OF_TWO_SCALES",
    "WHOLE_BLOCKS",
    "ZERO_POINTS_ARE_0",
    "no_blocks",
    "opset_up_to",
    "types_among",
    "weights_alone_among",
]


def types_among(
    activations: frozenset[DataType], weights: frozenset[DataType], consequence: Consequence = "refused"
) -> Rule:
    """The rule that codes have no other types than these; int32 is that of biases."""
    legal = activations | weights | {DataType.INT32}
    names = ", ".join(str(kind) for kind in DataType if kind in legal - {DataType.INT32})

    def broken_by(model: WrittenModel) -> Iterator[tuple[str, str]]:
        for node, kind in model.pairs():
            if kind is not None and kind not in legal:
                yield node.name, f"{kind}: there are {names}"

    return Rule("types-it-has", consequence, f"Codes are of the types {names} (biases of int32).", broken_by)


def weights_alone_among(legal: frozenset[DataType], consequence: Consequence = "refused") -> Rule:
    """The rule that weights beside floats are held in codes of no other types than these."""
    names = ", ".join(str(kind) for kind in DataType if kind in legal)

    def broken_by(model: WrittenModel) -> Iterator[tuple[str, str]]:
        for layer in model.layers:
            if layer.reads is None and layer.weight is not None and layer.weight.kind not in legal:
                yield layer.node.name, f"{layer.weight.kind} weights beside float activations"

    text = f"Weights beside float activations are {names or 'not held in codes'}{', or float' if names else ''}."
    return Rule("weights-alone", consequence, text, broken_by)


def opset_up_to(last: int) -> Rule:
    """The rule that a model is of an opset that a compiler knows."""

    def broken_by(model: WrittenModel) -> Iterator[tuple[str, str]]:
        if model.opset > last:
            yield "the model", f"is of opset {model.opset}; export it at {last}, and write it with com.microsoft pairs"

    return Rule("opset-it-knows", "refused", f"The model is of an opset up to {last}.", broken_by)


def _each_tensor(name: str, consequence: Consequence, text: str, wrong: Callable[[StoredTensor], str]) -> Rule:
    """The rule on all tensors that are held as codes; `wrong` says what is wrong with one, or nothing."""

    def broken_by(model: WrittenModel) -> Iterator[tuple[str, str]]:
        for tensor in model.stored():
            if message := wrong(tensor):
                yield tensor.node, message

    return Rule(name, consequence, text, broken_by)


ZERO_POINTS_ARE_0 = _each_tensor(
    "zero-points-are-0",
    "refused",
    "Every zero point is 0.",
    lambda tensor: f"its zero point is {tensor.zero_point.ravel()[0]}" if tensor.zero_point.any() else "",
)

FLOAT_BIASES = _each_tensor(
    "float-biases",
    "refused",
    "Biases are float: there is no int32 DequantizeLinear.",
    lambda tensor: "dequantizes int32" if tensor.kind is DataType.INT32 else "",
)

POWER_OF_TWO_SCALES = _each_tensor(
    "power-of-two-scales",
    "slow",
    "Every scale is a power of two: others are left to the CPU.",
    lambda tensor: "" if _is_power_of_two(tensor.scale) else "its scale is no power of two",
)


def no_blocks(consequence: Consequence) -> Rule:
    """The rule that nothing that is held as codes has a scale a block."""
    text = "Weights have a scale a channel or one for all, none a block."
    return _each_tensor("no-blocks", consequence, text, lambda tensor: "it has a scale a block" if tensor.block else "")


WHOLE_BLOCKS = _each_tensor(
    "whole-blocks",
    "refused",
    "Where a block of values shares a scale, it divides their number.",
    lambda tensor: f"its last block is shorter than {tensor.block}" if _has_part_of_a_block(tensor) else "",
)


def _has_part_of_a_block(tensor: StoredTensor) -> bool:
    if not tensor.block or tensor.codes is None or tensor.scale is None:
        return False
    sizes = zip(tensor.codes.shape, tensor.scale.shape, strict=False)  # of any file, good or not
    return any(size % tensor.block for size, scales in sizes if size != scales)


def _is_power_of_two(scale: NDArray[np.float32] | None) -> bool:
    return scale is None or bool((np.frexp(scale)[0] == 0.5).all())


def _declared(model: WrittenModel) -> Iterator[tuple[str, str]]:
    for value in list(model.model.graph.value_info)[:1]:
        yield value.name, "is declared inside the graph (value_info), with a batch that has a name"


NO_VALUE_INFO = Rule(
    "no-value-info",
    "refused",
    "Tensors inside the graph are not declared: where the batch has a name there, none can be set.",
    _declared,
)
