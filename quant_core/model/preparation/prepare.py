"""Makes the float model ready: batch norms folded, constants folded, types inferred, opset new enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa

from quant_core.errors import InputError, UnsupportedError, first_line
from quant_core.execution.machine import Machine
from quant_core.model.data.fitted_data import fitted
from quant_core.model.data.sequences import with_one_state
from quant_core.model.descriptions import copy_descriptions
from quant_core.model.graph import FloatGraph, nodes_inside
from quant_core.model.half_precision import has_halves, keep_types, types_given, widened
from quant_core.model.inner_tensors import note_inner_tensors
from quant_core.model.layers import Layer, find_layers, layer_table
from quant_core.model.model_file import follow_links, load_small_weights, read_model
from quant_core.model.notes import note
from quant_core.model.operators import COMPUTE_OPS, DEFAULT_LAYER_OPS
from quant_core.model.opset import OPSET, RUNTIME_DOMAIN, choose_runtime_pairs, has_pairs, upgraded
from quant_core.model.other_products import find_other_products, with_other_products
from quant_core.model.preparation.branches import without_decided_branches
from quant_core.model.preparation.equalization import equalized
from quant_core.model.preparation.fixed_inputs import fix_given_inputs
from quant_core.model.preparation.inferred_types import with_inferred_types
from quant_core.model.preparation.observation import observed
from quant_core.model.preparation.runtime_optimizations import OLDEST_IR_VERSION, optimized_by_runtime, restore_order
from quant_core.model.prepared_model import load_prepared, publish_prepared
from quant_core.model.selection import leave_in_float, note_origins
from quant_core.model.signature import Signature
from quant_core.model.sizes import Sizes
from quant_core.model.states import signature_said
from quant_core.storage.data import Dataset, open_columns
from quant_core.storage.references import Reference, fetch
from quant_core.storage.scratch import scratch_folder
from quant_core.storage.tables import with_facts

__all__ = ["prepare"]

_IR_VERSION = 10  # the one that came with opset 21


def prepare(
    model: Reference,
    layer_ops: Sequence[str],
    machine: Machine,
    equalize: bool = False,
    optimize: bool = True,
    exclude: Sequence[str] = (),
    pairs: str = "standard",
    data: Reference | None = None,
    sample_axis: Sequence[str] = (),
    classes: Sequence[str] = (),
    fix_inputs: Sequence[str] = (),
    states: Sequence[str] = (),
    output: str | None = None,
    random_data: Sequence[str] = (),
    opset: int = OPSET,
    split_outputs: bool = True,
) -> pa.Table:
    """Write the prepared model to the cache and return its layer table (schema LAYERS).

    The table's facts hold `prepared`, the digest of the prepared file (see `prepared_model`), and `float`, that of the
    model as given. Raises InputError when the file is not a float ONNX model or has nothing to narrow.

    Args:
        model: the float model.
        layer_ops: operators that are layers.
        machine: cache.
        equalize: whether the channels of weights are made alike in range first (see `equalization`).
        optimize: whether constants and batch norms are folded.
        exclude: nodes that stay in float (see `selection`).
        pairs: domain of the Q/DQ pairs; with com.microsoft the opset stays what it is.
        data: samples that the model is run on, for the shapes that costs follow from and for what inputs and outputs
            are (see `observation`); None: declared shapes say.
        sample_axis: axes of samples that the user gives, `name=axis`.
        classes: axes of classes that the user gives, likewise.
        fix_inputs: inputs that the user fixes, `name=value`.
        states: inputs that are fed from outputs, `input=output`.
        output: the compared outputs where some are inside the model; the prepared model notes them down.
        random_data: which of the data are random samples; noted in the model and in every model made of it.
        opset: what the opset is raised to (see `opset`).
        split_outputs: whether outputs are split whose channels hold values of different size.

    """
    cache = machine.cache
    path = fetch(model, cache)
    proto = read_model(path, model.url)
    with _one_line_on_faults(model.url):
        _refuse_float64(proto, model.url)
    folder = follow_links(proto, path)
    load_small_weights(proto, folder, model.url)
    with (
        scratch_folder(cache) as scratch,
        scratch_folder(cache) as floats,
        scratch_folder(cache) as branches,
        _one_line_on_faults(model.url),
    ):
        given = types_given(proto) if has_halves(proto) else {}
        if has_halves(proto):
            proto, folder = widened(proto, folder, floats), floats
        fix_given_inputs(proto, fix_inputs, model.url)
        if optimize:
            proto, folder = without_decided_branches(proto, folder, branches, model.url)
        optimized = _optimized(proto, folder, scratch, model.url, optimize, pairs, opset)
        _write_constant_outputs(optimized)
        _name_nodes(optimized)
        inferred = with_inferred_types(optimized, scratch)
        if equalize:
            inferred = _equalized(inferred, scratch, model.url)
        note_origins(proto, inferred)
        keep_types(inferred, given)
        leave_in_float(inferred, exclude)
        if output is not None:
            _note_inner_tensors(proto, inferred, output, equalize)
        if random_data:
            note(inferred, "random_data", f"{', '.join(random_data)}: a dry run, not to be used")
        sizes = None
        if data is not None:
            said = signature_said(FloatGraph(inferred, scratch), sample_axis, classes, states)
            signature, sizes = _observed(inferred, scratch, open_columns(data, cache), said)
            if not split_outputs:
                signature = signature.unsplit()
            signature.keep_in(inferred)
        digest = publish_prepared(inferred, scratch, {}, cache)
    graph = load_prepared(digest, cache)
    layers = find_layers(graph, layer_ops, sizes)
    if not layers:
        raise InputError(
            f"{model.url}: has no layer to narrow: no {_named(layer_ops)} on float data"
            f"{_inside_bodies(graph, layer_ops)}"
        )
    _refuse_infinite_weights(graph, layers, model.url)
    others = find_other_products(graph, layers, layer_ops, sizes)
    return with_facts(with_other_products(layer_table(layers), others), prepared=digest, float=model.sha256)


@contextmanager
def _one_line_on_faults(source: str) -> Iterator[None]:
    """Raise InputError for shapes that contradict each other, and for what does not run even on a first sample."""
    try:
        yield
    except onnx.shape_inference.InferenceError as error:
        raise InputError(f"{source}: its shapes or types contradict each other: {error}") from error
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime") or isinstance(error, MemoryError):
            reason = first_line(error) if str(error).strip() else "it needs too much memory"
            raise InputError(f"{source}: ONNX Runtime cannot run it on a first sample: {reason}") from error
        raise


def _note_inner_tensors(given: onnx.ModelProto, prepared: onnx.ModelProto, output: str, equalize: bool) -> None:
    if note_inner_tensors(given, prepared, output) and equalize:
        raise InputError("output: equalize scales tensors inside the model, so none can be compared; leave either out")


def _observed(model: onnx.ModelProto, folder: Path, data: Dataset, declared: Signature) -> tuple[Signature, Sizes]:
    """Return what inputs and outputs are, and the sizes of tensors, once the model has run on first samples."""
    graph = FloatGraph(model, folder)
    fitting = fitted(graph, data, declared)
    constant = tuple(replace(role, axis=None) if role.name in fitting.constants else role for role in declared.inputs)
    declared = replace(declared, inputs=constant)
    declared.keep_in(model)
    return observed(graph, with_one_state(graph, declared, fitting), declared)


def _refuse_infinite_weights(graph: FloatGraph, layers: Sequence[Layer], source: str) -> None:
    for layer in layers:
        for weight in layer.weights:
            values = graph.constant(weight)
            if not np.isfinite([values.min(initial=0), values.max(initial=0)]).all():
                raise InputError(f"{source}: weight {weight!r} of layer {layer.name!r} holds a NaN or an infinity")


def _inside_bodies(graph: FloatGraph, layer_ops: Sequence[str]) -> str:
    """Return where layers are that cannot be reached, and what frees them."""
    found = {
        node.name: sum(inner.op_type in layer_ops for inner in nodes_inside(node))
        for node in graph.nodes
        if any(inner.op_type in layer_ops for inner in nodes_inside(node))
    }
    if not found:
        return ""
    listed = ", ".join(f"{count} in {name}" for name, count in found.items())
    choice = ", ".join(graph.inputs)
    return (
        f"; there are layers in bodies of If, Loop or Scan: {listed}. A branch is freed by fixing the input that "
        f"chooses it, with --set NAME=VALUE (inputs: {choice})"
    )


def _named(layer_ops: Sequence[str]) -> str:
    return "operator that is quantized" if set(COMPUTE_OPS) <= set(layer_ops) else ", ".join(layer_ops)


def _refuse_float64(proto: onnx.ModelProto, source: str) -> None:
    """Refuse layers in float64, which are as many bytes again as the float32 that all numbers here are in."""
    graph = onnx.shape_inference.infer_shapes(proto).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    declared = [*graph.input, *graph.value_info, *graph.output]
    kinds |= {value.name: value.type.tensor_type.elem_type for value in declared}
    read = {kinds.get(node.input[0]) for node in graph.node if node.op_type in DEFAULT_LAYER_OPS}
    if onnx.TensorProto.DOUBLE in read:
        raise InputError(f"{source}: its {', '.join(DEFAULT_LAYER_OPS)} compute in double; give the model in float32")


def _optimized(
    proto: onnx.ModelProto, folder: Path, scratch: Path, source: str, optimize: bool, pairs: str, opset: int
) -> onnx.ModelProto:
    """Return what ONNX Runtime's basic optimisations (or none) make of the model, at a newer opset where that works.

    Large constants are read from `folder`, and written to `scratch`.
    """
    failure: Exception = RuntimeError()
    for candidate in (proto if pairs == RUNTIME_DOMAIN else upgraded(proto, opset), proto):
        try:
            optimized = optimized_by_runtime(candidate, folder, scratch, optimize, _least_ir_version(opset))
            break
        except Exception as error:  # onnxruntime raises a class a failure, with no common base of its own
            failure = error
    else:
        raise InputError(f"{source}: ONNX Runtime cannot run it: {first_line(failure)}") from failure
    load_small_weights(optimized, scratch, source)
    restore_order(optimized, proto)
    copy_descriptions(proto, optimized)
    _declare_domains(optimized, pairs, opset)
    return optimized


def _least_ir_version(opset: int) -> int:
    return _IR_VERSION if opset == OPSET else OLDEST_IR_VERSION


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
