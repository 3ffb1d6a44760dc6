"""Branches of an If that is decided before any data are seen: by a fixed input, or by a size that shapes declare.

What is in them are nodes like any other then, and may be layers. ONNX Runtime puts a branch in the place of its If once
the condition is a constant. It does so for one level of them at a time here: of two at once it writes names wrongly.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from quant_core.model.descriptions import copy_descriptions
from quant_core.model.graph import nodes_inside
from quant_core.model.model_file import load_small_weights
from quant_core.model.preparation.declared_sizes import fold_declared_sizes
from quant_core.model.preparation.runtime_optimizations import optimized_by_runtime, restore_order

__all__ = ["without_decided_branches"]


def without_decided_branches(
    model: onnx.ModelProto, folder: Path, scratch: Path, source: str
) -> tuple[onnx.ModelProto, Path]:
    """Return a model in which decided branches are in the place of their If, and the folder of its large constants.

    Models without an If are returned as they are. New files are in `scratch`; `source` names the model in messages.
    """
    found, place, left = model, folder, _ifs(model)
    for level in range(left):
        (scratch / str(level)).mkdir()
        fold_declared_sizes(found)
        freed = optimized_by_runtime(found, place, scratch / str(level))
        load_small_weights(freed, scratch / str(level), source)
        restore_order(freed, model)
        copy_descriptions(model, freed)
        found, place, before, left = freed, scratch / str(level), left, _ifs(freed)
        if left == before:
            break
    return found, place


def _ifs(model: onnx.ModelProto) -> int:
    """Count the Ifs of a graph, and of their branches."""
    inside = (inner for node in model.graph.node for inner in (node, *nodes_inside(node)))
    return sum(node.op_type == "If" for node in inside)
