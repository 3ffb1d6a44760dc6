"""Makes the float model ready: batch norms folded, constants folded, types inferred, opset new enough."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.errors import InputError, UnsupportedError
from quant_core.execution.machine import Machine
from quant_core.model.branches import without_decided_branches
from quant_core.model.descriptions import copy_descriptions
from quant_core.model.equalization import equalized
from quant_core.model.fitted_data import fitted
from quant_core.model.fixed_inputs import fix_given_inputs
from quant_core.model.graph import FloatGraph, nodes_inside, outer_names
from quant_core.model.half_precision import has_halves, keep_types, types_given, widened
from quant_core.model.inner_tensors import note_inner_tensors
from quant_core.model.layers import Layer, find_layers, layer_table
from quant_core.model.model_file import follow_links, load_small_weights, read_model
from quant_core.model.observation import observed
from quant_core.model.operators import COMPUTE_OPS, DEFAULT_LAYER_OPS
from quant_core.model.opset import OPSET, RUNTIME_DOMAIN, choose_runtime_pairs, has_pairs, upgraded
from quant_core.model.other_products import find_other_products, with_other_products
from quant_core.model.runtime_optimizations import OLDEST_IR_VERSION, optimized_by_runtime, restore_order
from quant_core.model.selection import leave_in_float, note_origins
from quant_core.model.sequences import with_one_state
from quant_core.model.sessions import session_options
from quant_core.model.signature import Signature
from quant_core.model.sizes import Sizes
from quant_core.model.states import signature_said
from quant_core.model.stored_model import (
    DATA_FILE,
    MODEL_FILE,
    ModelFolder,
    add_constants,
    is_intact,
    published,
    write_model,
)
from quant_core.storage.data import Dataset, open_columns
from quant_core.storage.references import Reference, fetch
from quant_core.storage.scratch import scratch_folder
from quant_core.storage.tables import facts, with_facts

__all__ = ["is_prepared", "prepare", "prepared_folder", "prepared_graph", "publish_prepared"]

_STAGE = "prepared"  # the folder of the cache
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

    With `equalize` the channels of its weights are made alike first (see `equalization`); without `optimize`
    nothing is folded; nodes named in `exclude` stay in float (see `selection`); with `pairs` of com.microsoft the
    opset stays what it is, else it is raised to `opset` (see the module of that name).

    With `data` costs follow from the shapes that these have, and what inputs and outputs are is found out on them
    (see `observation`); `sample_axis` and `classes` say axes of inputs and outputs, `fix_inputs` values of inputs,
    `states` which inputs are fed from which outputs, and with `split_outputs` outputs are parted whose channels are of
    unlike scale. Where the `output` that is compared is a tensor inside, or several, the model notes that down.
    Which of the data are random samples (`random_data`) is noted in the model, and in every model made of it.

    The table's facts hold `prepared`, the digest of the prepared file (see `prepared_graph`), and `float`, that of the
    model as given. Raises InputError when the file is no float ONNX model or has nothing to narrow.
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
        inferred = _inferred(optimized, scratch)
        if equalize:
            inferred = _equalized(inferred, scratch, model.url)
        note_origins(proto, inferred)
        keep_types(inferred, given)
        leave_in_float(inferred, exclude)
        if output is not None:
            _note_inner_tensors(proto, inferred, output, equalize)
        if random_data:
            inferred.metadata_props.add(key="random_data", value=f"{', '.join(random_data)}: a dry run, not to be used")
        sizes = None
        if data is not None:
            said = signature_said(FloatGraph(inferred, scratch), sample_axis, classes, states)
            signature, sizes = _observed(inferred, scratch, open_columns(data, cache), said)
            if not split_outputs:
                signature = signature.unsplit()
            signature.keep_in(inferred)
        digest = _published(FloatGraph(inferred, scratch), {}, scratch, cache)
    graph = prepared_graph(digest, cache)
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
            reason = (str(error).strip().splitlines() or ["it needs too much memory"])[0]
            raise InputError(f"{source}: ONNX Runtime cannot run it on a first sample: {reason}") from error
        raise


def _note_inner_tensors(given: onnx.ModelProto, prepared: onnx.ModelProto, output: str, equalize: bool) -> None:
    if note_inner_tensors(given, prepared, output) and equalize:
        raise InputError("output: equalize scales tensors inside the model, so none is compared; leave one of both out")


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


def prepared_graph(digest: str, cache: Path) -> FloatGraph:
    """The prepared model with that digest."""
    return FloatGraph.load(cache / _STAGE / digest / MODEL_FILE)


def prepared_folder(table: pa.Table) -> ModelFolder | None:
    """Return where the model is that a layer table was read from; None for other tables."""
    digest = facts(table).get("prepared")
    return None if digest is None else ModelFolder(f"{_STAGE}/{digest}", (DATA_FILE,))


def is_prepared(table: pa.Table, cache: Path) -> bool:
    """Return whether the files a layer table was read from are still in the cache, unchanged."""
    return is_intact(cache / _STAGE, facts(table)["prepared"], [DATA_FILE])


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
    failure = None
    for candidate in (proto if pairs == RUNTIME_DOMAIN else upgraded(proto, opset), proto):
        try:
            optimized = optimized_by_runtime(candidate, folder, scratch, optimize, _least_ir_version(opset))
            break
        except Exception as error:  # onnxruntime raises a class a failure, with no common base of its own
            failure = error
    else:
        reason = str(failure).strip().splitlines()[0]
        raise InputError(f"{source}: ONNX Runtime cannot run it: {reason}") from failure
    load_small_weights(optimized, scratch, source)
    restore_order(optimized, proto)
    copy_descriptions(proto, optimized)
    _declare_domains(optimized, pairs, opset)
    return optimized


def _least_ir_version(opset: int) -> int:
    return _IR_VERSION if opset == OPSET else OLDEST_IR_VERSION


def publish_prepared(
    model: onnx.ModelProto, folder: Path, constants: Mapping[str, NDArray[np.generic]], cache: Path
) -> str:
    """Write a prepared model that was changed to the cache, and return its digest.

    `constants` are those that are new or changed; all others are read from the model or `folder`.
    """
    with scratch_folder(cache) as scratch:
        return _published(FloatGraph(model, folder), constants, scratch, cache)


def _published(graph: FloatGraph, changed: Mapping[str, NDArray[np.generic]], scratch: Path, cache: Path) -> str:
    """Write the prepared model, its constants in the order of their first use; its digest."""
    used = dict.fromkeys(name for node in graph.nodes for name in [*node.input, *outer_names(node)])
    constants = (
        (name, changed[name] if name in changed else graph.constant(name))
        for name in used
        if name in changed or name in graph.initializers
    )
    bare = onnx.ModelProto()
    bare.CopyFrom(graph.model)
    del bare.graph.initializer[:]
    with (scratch / DATA_FILE).open("wb") as data:
        add_constants(bare, constants, data)
    write_model(bare, scratch)
    return published(scratch, cache / _STAGE, [DATA_FILE])


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


def _inferred(proto: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The model with every tensor's type: ONNX's inference, and ONNX Runtime's for what that cannot tell."""
    proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    known = {value.name for value in [*proto.graph.value_info, *proto.graph.output]}
    unknown = [name for node in proto.graph.node for name in node.output if name and name not in known]
    if unknown:
        asked = onnx.ModelProto()
        asked.CopyFrom(proto)
        asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in unknown)
        session = ort.InferenceSession(asked.SerializeToString(), session_options(folder=folder))
        found = [value for value in session.get_outputs() if value.name in set(unknown)]
        proto.graph.value_info.extend(filter(None, map(_declared, found)))
    return proto


def _equalized(proto: onnx.ModelProto, folder: Path, source: str) -> onnx.ModelProto:
    graph = FloatGraph(proto, folder)
    if graph.is_large:
        raise UnsupportedError(f"{source}: equalize is for models of up to 1 GiB of weights; leave it out")
    model = equalized(graph)
    _name_nodes(model)
    return _inferred(model, folder)


def _declared(value: ort.NodeArg) -> onnx.ValueInfoProto | None:
    """ONNX's declaration of what ONNX Runtime inferred; None for what is no tensor."""
    kind = re.fullmatch(r"tensor\((\w+)\)", value.type)
    if kind is None:
        return None
    return onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.DataType.Value(kind[1].upper()), value.shape)


def _name_nodes(proto: onnx.ModelProto) -> None:
    """Give every node a name of its own: a plan refers to layers by name."""
    taken: set[str] = set()
    for index, node in enumerate(proto.graph.node):
        name = node.name or f"{node.op_type}_{index}"
        node.name = name if name not in taken else f"{name}_{index}"
        taken.add(node.name)
