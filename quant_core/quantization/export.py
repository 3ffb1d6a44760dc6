"""Writes a plan as a model file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.errors import UnsupportedError
from quant_core.execution.machine import Machine
from quant_core.model.descriptions import copy_descriptions
from quant_core.model.graph import FloatGraph, outer_names
from quant_core.model.selection import forget_origins
from quant_core.model.sessions import Constants
from quant_core.model.signature import fixed_inputs
from quant_core.model.stored_model import (
    DATA_FILE,
    INLINE_BYTES,
    MODEL_FILE,
    ModelFolder,
    add_constants,
    declared_constant,
    is_intact,
    published,
    write_model,
)
from quant_core.precision import PrecisionPlan
from quant_core.quantization.compact import compacted
from quant_core.quantization.given_types import in_given_types, with_given_ends
from quant_core.quantization.lineage import lineage
from quant_core.quantization.plan_graph.qdq import PlanWriter, QuantizedGraph
from quant_core.quantization.quantizer import Quantizer
from quant_core.quantization.recipe import QuantizationRecipe, quantizer_of
from quant_core.quantization.runtime_operators.block_operators import with_block_operators
from quant_core.quantization.runtime_operators.qoperator import with_integer_operators
from quant_core.quantization.runtime_operators.recurrent_operators import with_dynamic_lstms
from quant_core.runtimes.profile import RuntimeProfile
from quant_core.storage.references import Reference, file_digest
from quant_core.storage.schemas import EXPORTED
from quant_core.storage.scratch import scratch_folder
from quant_core.storage.tables import facts, with_facts

__all__ = [
    "LARGEST_FILE",
    "SESSION",
    "export",
    "exported_folder",
    "exported_reference",
    "is_exported",
    "quantized_model",
]

LARGEST_FILE = 1 << 30
"""Bytes of constants from which on they are written to a file beside the model; protobuf ends at twice that."""

SESSION = "narrowcast.session"
"""Key of the metadata that name the options which an application has to set, as JSON."""
_STAGE = "exported"  # the folder of the cache


def export(
    recipe: QuantizationRecipe,
    plan: Mapping[str, str],
    machine: Machine,
    tensors: Mapping[str, str] | None = None,
    form: str = "qdq",
    compact: bool = False,
) -> pa.Table:
    """Write the quantized model of a plan to the cache; one row a file (schema EXPORTED).

    Args:
        recipe: what its numbers follow from.
        plan: the precision of each layer, by name.
        machine: cache.
        tensors: types of single tensors, by name.
        form: qdq, or with operators in place of pairs: qoperator for those of integers, matmulnbits for weights in
            blocks, dynamiclstm for LSTM layers.
        compact: whether what the plan adds has short names (see `compact`).

    Raises UnsupportedError where ONNX Runtime has no integer operators for a precision.

    """
    quantizer = quantizer_of(recipe, machine)
    chosen, integer = PrecisionPlan.from_dict(plan, tensors), form == "qoperator"
    for _, precision in chosen.layers:
        if integer and precision.why_not_integer:
            raise UnsupportedError(f"format: {precision.why_not_integer}")
    writer = PlanWriter(quantizer, folded=False, unfused=integer)
    written = writer.write(chosen)
    with scratch_folder(machine.cache) as scratch:
        files = _write(quantizer, written, writer.constants, scratch, form, lineage(recipe), compact)
        rows = [
            {"file": name, "sha256": file_digest(scratch / name), "bytes": (scratch / name).stat().st_size}
            for name in files
        ]
        digest = published(scratch, machine.cache / _STAGE, files[1:])
    return with_facts(pa.Table.from_pylist(rows, schema=EXPORTED), exported=digest)


def _in_form(model: onnx.ModelProto, form: str, runtime: RuntimeProfile) -> onnx.ModelProto:
    """The model with the operators that a form has instead of pairs."""
    if form == "qoperator":
        return with_integer_operators(model)
    if form == "matmulnbits":
        return with_block_operators(model)
    return with_dynamic_lstms(model, runtime.keeps_byte_sums_in_range) if form == "dynamiclstm" else model


def _write(
    quantizer: Quantizer,
    written: QuantizedGraph,
    constants: Constants,
    folder: Path,
    form: str,
    notes: Mapping[str, str],
    compact: bool,
) -> list[str]:
    """Write a model whose constants are in a file beside it where they are large; the names of the files.

    Args:
        quantizer: what the nodes were made by.
        written: the nodes.
        constants: their constants, by name.
        folder: where the files go.
        form: qdq, or the operators that the pairs become.
        notes: what goes into the metadata.
        compact: whether what is added gets short names; not in a model of large constants, where names do not count.

    """
    size = sum(array.nbytes for _, array in _used_constants(quantizer.graph, written.nodes, constants))
    if size > LARGEST_FILE and form != "qdq":
        raise UnsupportedError(f"format: {form} is for models of up to 1 GiB of quantized weights; use qdq")
    if size <= LARGEST_FILE:
        model = quantized_model(quantizer, written, constants, notes=notes)
        model = _in_form(model, form, quantizer.runtime)
        if compact and not quantizer.runtime.beside:  # files beside the model call tensors by their names
            layers = {quantizer.graph.nodes[index].name for layer in quantizer.layers for index in layer.nodes}
            model = compacted(model, layers)
        onnx.checker.check_model(model, full_check=True)
        write_model(model, folder)
        return [MODEL_FILE]
    with (folder / DATA_FILE).open("wb") as data:
        model = quantized_model(quantizer, written, constants, data, notes)
    onnx.checker.check_model(str(write_model(model, folder)), full_check=True)
    return [MODEL_FILE, DATA_FILE]


def exported_reference(exported: pa.Table, cache: Path) -> Reference:
    """The model that `export` wrote."""
    digest, (model, *beside) = facts(exported)["exported"], exported.column("file").to_pylist()
    return Reference(url=str(cache / _STAGE / digest / model), sha256=digest, beside=tuple(beside))


def exported_folder(table: pa.Table) -> ModelFolder | None:
    """Return where the files are that a table of schema EXPORTED lists; None for other tables."""
    if table.schema.names != EXPORTED.names:
        return None
    return ModelFolder(f"{_STAGE}/{facts(table)['exported']}", tuple(table.column("file").to_pylist()[1:]))


def is_exported(exported: pa.Table, cache: Path) -> bool:
    """Return whether the files are still in the cache, unchanged."""
    reference = exported_reference(exported, cache)
    return is_intact(cache / _STAGE, reference.sha256, reference.beside)


def quantized_model(
    quantizer: Quantizer,
    written: QuantizedGraph,
    constants: Constants,
    data: BinaryIO | None = None,
    notes: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """The written nodes as a model, with just the constants they use, each in the order of its first use.

    Large constants go to `data`, if that is given. The metadata hold what an application has to set for its runtime,
    and the `notes`.
    """
    graph, runtime = quantizer.graph, quantizer.runtime
    nodes, constants = in_given_types(graph, written.nodes, constants)
    model = onnx.ModelProto(
        ir_version=graph.model.ir_version, producer_name="narrowcast", opset_import=graph.model.opset_import
    )
    copy_descriptions(graph.model, model)
    entries = {SESSION: json.dumps(dict(runtime.session_entries))} if runtime.session_entries else {}
    for key, value in {**entries, **(notes or {})}.items():
        model.metadata_props.add(key=key, value=value)
    model.functions.extend(graph.model.functions)
    model.graph.name = graph.model.graph.name or "model"
    model.graph.node.extend(nodes)
    forget_origins(model)
    fed = (value for value in graph.model.graph.input if value.name not in graph.initializers)
    model.graph.input.extend(with_given_ends(fed, graph))
    model.graph.output.extend(with_given_ends(graph.model.graph.output, graph))
    model = _inferred(model, _used_constants(graph, nodes, constants))
    if not runtime.has_value_info:
        del model.graph.value_info[:]
    add_constants(model, _used_constants(graph, nodes, constants), data)
    _declare_fixed(model, fixed_inputs(graph))
    _leave_sizes_open(model)
    return model


def _leave_sizes_open(model: onnx.ModelProto) -> None:
    """Take out shapes inside the model that say no more than its inputs do: some runtimes then let nobody choose those.

    What follows for a tensor from the sizes of inputs is found by the program that loads the model with its own sizes.
    """
    fixed = [value for value in model.graph.value_info if _is_fixed(value)]
    del model.graph.value_info[:]
    model.graph.value_info.extend(fixed)


def _is_fixed(value: onnx.ValueInfoProto) -> bool:
    """Return whether every size of a tensor is a number."""
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)


def _declare_fixed(model: onnx.ModelProto, fixed: Mapping[str, NDArray[np.generic]]) -> None:
    """Let callers go on feeding inputs that were fixed: each is an input that may be left out."""
    used = {tensor.name for tensor in model.graph.initializer}
    add_constants(model, [(name, value) for name, value in fixed.items() if name not in used], None)
    for name, value in fixed.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, value.shape))


def _inferred(model: onnx.ModelProto, constants: Iterable[tuple[str, NDArray[np.generic]]]) -> onnx.ModelProto:
    """The model with the type of every tensor; large constants are only declared to the inference."""
    for name, array in constants:
        if array.nbytes <= INLINE_BYTES:
            add_constants(model, [(name, array)], None)
        else:
            model.graph.initializer.append(declared_constant(name, array, DATA_FILE))
    model = onnx.shape_inference.infer_shapes(model)
    del model.graph.initializer[:]
    return model


def _used_constants(
    graph: FloatGraph, nodes: Iterable[onnx.NodeProto], constants: Constants
) -> Iterator[tuple[str, NDArray[np.generic]]]:
    used = dict.fromkeys(name for node in nodes for name in [*node.input, *outer_names(node)])
    for name in used:
        if name in constants:
            yield name, constants[name]
        elif name in graph.initializers:
            yield name, graph.constant(name)
