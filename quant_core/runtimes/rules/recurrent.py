"""Rules on recurrent nodes that profiles are made of."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from quant_core.model.operators import RECURRENT_OPS
from quant_core.runtimes.profile import Rule
from quant_core.runtimes.written_model import WrittenLayer, WrittenModel

__all__ = ["LENGTHS_WITH_FIXED_SIZES", "ONE_SCALE_BESIDE_STATES", "STATES_BESIDE_FLOATS", "no_layers_of"]


def _recurrent(model: WrittenModel) -> Iterator[WrittenLayer]:
    """The recurrent nodes with weights in codes."""
    for layer in model.layers:
        if layer.node.op_type in RECURRENT_OPS and (layer.weight or layer.state_weight):
            yield layer


def _behind_bytes(model: WrittenModel) -> Iterator[tuple[str, str]]:
    for layer in _recurrent(model):
        if layer.node.op_type in ("LSTM", "GRU") and layer.has_8_bit_input:
            yield layer.node.name, "reads 8 bits, beside weights in codes: it does not compile"


STATES_BESIDE_FLOATS = Rule(
    "states-beside-floats",
    "refused",
    "An LSTM or GRU with weights in codes reads floats, not an 8-bit pair.",
    _behind_bytes,
)


_LENGTHS = 4
"""The place of the lengths of sequences among the inputs of a recurrent node."""


def _with_lengths(model: WrittenModel) -> Iterator[tuple[str, str]]:
    if not model.has_open_sizes:
        return
    for layer in model.layers:
        node = layer.node
        if node.op_type in RECURRENT_OPS and len(node.input) > _LENGTHS and node.input[_LENGTHS]:
            yield node.name, "is given lengths of sequences, and the model leaves sizes open: it runs over all steps"


LENGTHS_WITH_FIXED_SIZES = Rule(
    "lengths-with-fixed-sizes",
    "differs",
    "A model with recurrent nodes that are given lengths of sequences has inputs of fixed sizes.",
    _with_lengths,
)


def _channels(model: WrittenModel) -> Iterator[tuple[str, str]]:
    for layer in _recurrent(model):
        scales = [weight.scale for weight in (layer.weight, layer.state_weight) if weight is not None]
        if any(scale is not None and scale.ndim for scale in scales):
            yield layer.node.name, "its weights have a scale a channel: they are dequantized on the CPU"


ONE_SCALE_BESIDE_STATES = Rule(
    "one-scale-beside-states",
    "slow",
    "Weights of recurrent nodes have one scale: others are dequantized on the CPU.",
    _channels,
)


def no_layers_of(operators: Collection[str]) -> Rule:
    """The rule that nodes of some recurrent operators have no weights in codes."""
    names = ", ".join(operators)

    def broken_by(model: WrittenModel) -> Iterator[tuple[str, str]]:
        for layer in _recurrent(model):
            if layer.node.op_type in operators:
                yield layer.node.name, f"a quantized {layer.node.op_type}: it is left to the CPU"

    return Rule(
        "no-quantized-" + names.lower().replace(", ", "-"), "slow", f"No {names} has weights in codes.", broken_by
    )
