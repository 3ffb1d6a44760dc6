"""Where an output has its classes, as far as the operators behind it tell."""

from __future__ import annotations

from quant_core.model.graph import FloatGraph, attribute, integer_attribute

__all__ = ["class_source"]

_PASSING = frozenset("Identity Cast Relu Clip Add Sub Mul Div Dropout LeakyRelu Sigmoid Tanh".split())


def class_source(graph: FloatGraph, name: str) -> tuple[int, str] | None:
    """Return the axis of classes and the operator that computes them; None where nothing shows them.

    It is the axis of a Softmax, the last one of a product of matrices (of one with its weight on the left the last but
    one), the second one of a convolution.
    """
    moved: list[list[int]] = []
    while name in graph.producer:
        node = graph.nodes[graph.producer[name]]
        if node.op_type in ("Softmax", "LogSoftmax"):
            return _through(moved, integer_attribute(node, "axis", -1)), node.op_type
        if node.op_type in ("MatMul", "Gemm"):
            return _through(moved, -2 if node.input[0] in graph.initializers else -1), node.op_type
        if node.op_type in ("Conv", "ConvTranspose"):
            return _through(moved, 1), node.op_type
        if node.op_type == "Transpose" and (perm := attribute(node, "perm", None)):
            moved.append([int(str(at)) for at in perm])  # type: ignore[attr-defined]
        elif node.op_type not in _PASSING:
            return None
        name = next((read for read in node.input if read in graph.producer), "")
    return None


def _through(moved: list[list[int]], axis: int) -> int:
    for perm in reversed(moved):
        axis = perm.index(axis % len(perm))
    return axis
