"""What each ONNX operator is to quantization: a layer, a mover, a computation, or left alone."""

from __future__ import annotations

from enum import Enum
from typing import Literal

__all__ = [
    "COMPUTE_OPS",
    "DEFAULT_LAYER_OPS",
    "PRODUCT_OPS",
    "RECURRENT_OPS",
    "TABLE_OP",
    "LayerOp",
    "Role",
    "is_activation",
    "moving_inputs",
    "role_of",
    "takes_constants",
    "weight_inputs",
]

LayerOp = Literal["Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "Gather"]
"""What has the form of a layer: operators that multiply their first two inputs, recurrent ones, and Gather with a
constant table."""

TABLE_OP: LayerOp = "Gather"
"""The operator that looks rows up in a table (an embedding), which is its weight."""

PRODUCT_OPS: tuple[LayerOp, ...] = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that multiply their first two inputs."""

RECURRENT_OPS: tuple[LayerOp, ...] = ("LSTM", "GRU", "RNN")
"""Operators that multiply what they read, and a state that goes from step to step, by a weight each."""

DEFAULT_LAYER_OPS: tuple[LayerOp, ...] = (*PRODUCT_OPS, *RECURRENT_OPS)
"""Operators whose precision the search may choose unless it is told otherwise: those that multiply."""


class Role(Enum):
    """How an operator takes part in quantization."""

    LAYER = "layer"
    """Multiplies by weights, in the precision its plan says."""
    RECURRENT = "recurrent"
    """A layer with a state: its weights, and what it reads at each step, are in the precision its plan says. States
    are float, and what it writes is until a reader says otherwise."""
    MOVER = "mover"
    """Only moves, selects or cuts off values: same scale on both sides, precision of the reader."""
    COMPUTE = "compute"
    """Reads activations: at the wide precision, or the one its plan says where the search may choose that too."""
    FLOAT = "float"
    """Left as it is."""


_MOVERS = frozenset(
    "Clip Concat DepthToSpace Expand Flatten Gather GlobalMaxPool Identity MaxPool Pad Relu Reshape "
    "Slice SpaceToDepth Split Squeeze Tile Transpose Unsqueeze".split()
)
COMPUTE_OPS = tuple(
    "Add AveragePool Div Elu Erf Gelu GlobalAveragePool HardSigmoid HardSwish InstanceNormalization "
    "LayerNormalization BatchNormalization LeakyRelu Max Mean Min Mul PRelu ReduceMean ReduceSum Resize "
    "Sigmoid Softmax Softplus Sqrt Pow Sub Sum Tanh Exp Upsample".split()
)
"""Operators without weights that are quantized. Each may be a layer of the search (see `layers`), and has no
type for weights then."""
_ACTIVATIONS = frozenset(["Relu", "Clip"])
_BINARY = frozenset(["Add", "Sub", "Mul", "Div", "Sum", "Max", "Min"])
_STANDARD_DOMAINS = frozenset(["", "ai.onnx"])


def role_of(op_type: str, domain: str, layer_ops: frozenset[str]) -> Role:
    """The part an operator plays, given which operator types are layers."""
    if domain not in _STANDARD_DOMAINS:
        return Role.FLOAT
    if op_type in PRODUCT_OPS:
        return Role.LAYER if op_type in layer_ops else Role.COMPUTE
    if op_type in RECURRENT_OPS:
        return Role.RECURRENT if op_type in layer_ops else Role.FLOAT
    if op_type in _MOVERS:
        return Role.MOVER
    if op_type in COMPUTE_OPS:
        return Role.COMPUTE
    return Role.FLOAT


def weight_inputs(op_type: str) -> range:
    """Positions of the inputs that are weights of a layer where they are constants."""
    if op_type in RECURRENT_OPS:
        return range(1, 3)
    return range(2 if op_type in PRODUCT_OPS else 1 if op_type == TABLE_OP else 0)


def is_activation(op_type: str) -> bool:
    """Return whether runtimes fuse the operator into the one before it, leaving no tensor between them."""
    return op_type in _ACTIVATIONS


def takes_constants(op_type: str) -> bool:
    """Return whether a computation's constant operands are values like its other operand, not parameters."""
    return op_type in _BINARY


def moving_inputs(op_type: str, input_count: int) -> range:
    """Positions of the inputs a mover moves; the others say how (shapes, bounds, pad values)."""
    return range(input_count if op_type == "Concat" else 1)
