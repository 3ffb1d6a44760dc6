"""The form in which all later steps find a model: float32, folded, every node named, every type inferred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from quant_core.errors import InputError, UnsupportedError, first_line
from quant_core.model.descriptions import copy_descriptions
from quant_core.model.graph import FloatGraph
from quant_core.model.half_precision import has_halves, keep_types, types_given, widened
from quant_core.model.model_file import load_small_weights
from quant_core.model.opset import (
    CHANNELS_OPSET,
    OPSET,
    RUNTIME_DOMAIN,
    choose_runtime_pairs,
    has_pairs,
    opset_of,
    upgraded,
)
from quant_core.model.preparation.branches import without_decided_branches
from quant_core.model.preparation.equalization import equalized
from quant_core.model.preparation.fixed_inputs import fix_given_inputs
from quant_core.model.preparation.inferred_types import with_inferred_types
from quant_core.model.preparation.runtime_optimizations import OLDEST_IR_VERSION, optimized_by_runtime, restore_order
from quant_core.model.selection import note_origins
from quant_core.storage.scratch import scratch_folder

__all__ = ["StandardForm"]


@dataclass(frozen=True)
class StandardForm:
    """How a model is brought into that form."""

    source: str
    """What messages call the model."""
    fix_inputs: Sequence[str]
    """Inputs that the user fixes, `name=value`."""
    optimize: bool
    """Whether constants and batch norms are folded."""
    equalize: bool
    """Whether the channels of weights are made alike in range (see `equalization`)."""
    pairs: str
    """Domain of the Q/DQ pairs; with com.microsoft the opset is raised to CHANNELS_OPSET at most."""
    opset: int
    """What the opset is raised to (see `opset`)."""

    def of(
        self, proto: onnx.ModelProto, folder: Path, scratch: Path, cache: Path
    ) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        """Return a model as it is before optimisation, with the names that its user knows, and in the standard form.

        Large constants are read from `folder`, and those of the standard form are written to `scratch`.
        """
        given = types_given(proto) if has_halves(proto) else {}
        with scratch_folder(cache) as floats, scratch_folder(cache) as branches:
            if has_halves(proto):
                proto, folder = widened(proto, folder, floats), floats
            fix_given_inputs(proto, self.fix_inputs, self.source)
            if self.optimize:
                proto, folder = without_decided_branches(proto, folder, branches, self.source)
            found = self._optimized(proto, folder, scratch)
        _write_constant_outputs(found)
        _name_nodes(found)
        found = with_inferred_types(found, scratch)
        if self.equalize:
            found = _equalized(found, scratch, self.source)
        note_origins(proto, found)
        keep_types(found, given)
        return proto, found

    def _optimized(self, proto: onnx.ModelProto, folder: Path, scratch: Path) -> onnx.ModelProto:
        """Return what ONNX Runtime's basic optimisations (or none) make of it, at a newer opset where that works."""
        failure: Exception = RuntimeError()
        for candidate in (self._raised(proto), proto):
            try:
                ir_version = _least_ir_version(self.opset)
                optimized = optimized_by_runtime(candidate, folder, scratch, self.optimize, ir_version)
                break
            except Exception as error:  # onnxruntime raises a class a failure, with no common base of its own
                failure = error
        else:
            raise InputError(f"{self.source}: ONNX Runtime cannot run it: {first_line(failure)}") from failure
        load_small_weights(optimized, scratch, self.source)
        restore_order(optimized, proto)
        copy_descriptions(proto, optimized)
        _declare_domains(optimized, self.pairs, self.opset)
        return optimized

    def _raised(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """Return the model at the opset that its pairs need."""
        if self.pairs != RUNTIME_DOMAIN:
            return upgraded(proto, self.opset)
        return upgraded(proto, CHANNELS_OPSET) if opset_of(proto) < CHANNELS_OPSET else proto


def _least_ir_version(opset: int) -> int:
    if opset < OPSET:
        return OLDEST_IR_VERSION
    return int(onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)]))


def _declare_domains(proto: onnx.ModelProto, pairs: str, opset: int) -> None:
    """Import the domains the nodes and the pairs to come are of, instead of all that ONNX Runtime knows."""
    used = {node.domain for node in proto.graph.node} | {""}
    kept = [entry for entry in proto.opset_import if entry.domain in used]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
    if not has_pairs(proto, opset) or pairs == RUNTIME_DOMAIN:
        choose_runtime_pairs(proto)


def _write_constant_outputs(proto: onnx.ModelProto) -> None:
    """Give every output that is a constant a node that writes it, as all other outputs have."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name in [value.name for value in proto.graph.output if value.name in constants]:
        constants[name].name = f"{name}/constant"
        for node in proto.graph.node:
            node.input[:] = [f"{name}/constant" if read == name else read for read in node.input]
        proto.graph.node.insert(0, onnx.helper.make_node("Identity", [f"{name}/constant"], [name]))


def _equalized(proto: onnx.ModelProto, folder: Path, source: str) -> onnx.ModelProto:
    graph = FloatGraph(proto, folder)
    if graph.is_large:
        raise UnsupportedError(f"{source}: equalize is for models of up to 1 GiB of weights; leave it out")
    model = equalized(graph)
    _name_nodes(model)
    return with_inferred_types(model, folder)


def _name_nodes(proto: onnx.ModelProto) -> None:
    """Give every node a name of its own: a plan refers to layers by name."""
    taken: set[str] = set()
    for index, node in enumerate(proto.graph.node):
        name = node.name or f"{node.op_type}_{index}"
        node.name = name if name not in taken else f"{name}_{index}"
        taken.add(node.name)
