"""Makes the float model ready: in its standard form, observed on first samples, its layers found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import pyarrow as pa

from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.model.data.fitted_data import fitted
from quant_core.model.data.sequences import with_one_state
from quant_core.model.graph import FloatGraph
from quant_core.model.inner_tensors import note_inner_tensors
from quant_core.model.layers import find_layers, layer_table
from quant_core.model.model_file import follow_links, load_small_weights, read_model
from quant_core.model.notes import note
from quant_core.model.opset import OPSET
from quant_core.model.other_products import find_other_products, with_other_products
from quant_core.model.preparation.bias_absorption import with_absorbed_biases
from quant_core.model.preparation.observation import observed
from quant_core.model.preparation.refusals import no_layers, one_line_on_faults, refuse_float64, refuse_infinite_weights
from quant_core.model.preparation.standard_form import StandardForm
from quant_core.model.prepared_model import load_prepared, publish_prepared
from quant_core.model.selection import leave_in_float
from quant_core.model.signature import Signature
from quant_core.model.sizes import Sizes
from quant_core.model.states import signature_said
from quant_core.storage.data import Dataset, open_columns
from quant_core.storage.references import Reference, fetch
from quant_core.storage.scratch import scratch_folder
from quant_core.storage.tables import with_facts

__all__ = ["prepare"]


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
    absorb_biases: bool = False,
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
        absorb_biases: whether biases move into the next layers (see `bias_absorption`).

    """
    cache = machine.cache
    path = fetch(model, cache)
    proto = read_model(path, model.url)
    with one_line_on_faults(model.url):
        refuse_float64(proto, model.url)
    folder = follow_links(proto, path)
    load_small_weights(proto, folder, model.url)
    form = StandardForm(model.url, fix_inputs, optimize, equalize, pairs, opset)
    with scratch_folder(cache) as scratch, one_line_on_faults(model.url):
        given, prepared = form.of(proto, folder, scratch, cache)
        leave_in_float(prepared, exclude)
        if output is not None:
            _note_inner_tensors(given, prepared, output, equalize)
        if absorb_biases:
            prepared = with_absorbed_biases(prepared, scratch)
        if random_data:
            note(prepared, "random_data", f"{', '.join(random_data)}: a dry run, not to be used")
        sizes = None
        if data is not None:
            said = signature_said(FloatGraph(prepared, scratch), sample_axis, classes, states)
            signature, sizes = _observed(prepared, scratch, open_columns(data, cache), said)
            if not split_outputs:
                signature = signature.unsplit()
            signature.keep_in(prepared)
        digest = publish_prepared(prepared, scratch, {}, cache)
    graph = load_prepared(digest, cache)
    layers = find_layers(graph, layer_ops, sizes)
    if not layers:
        raise no_layers(graph, layer_ops, model.url)
    refuse_infinite_weights(graph, layers, model.url)
    others = find_other_products(graph, layers, layer_ops, sizes)
    return with_facts(with_other_products(layer_table(layers), others), prepared=digest, float=model.sha256)


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
