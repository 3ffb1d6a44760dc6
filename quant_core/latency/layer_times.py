"""Stage: times each layer at each precision, and the whole model with all layers at one.

A layer is timed as a model of its own (see `sections`), as its runtime opens it, in ONNX Runtime for those that are not
run here. It is timed on one thread, all precisions in turns, and with them a model that does nothing: what that takes
is the call's, not the layer's. Then whole models are timed whose layers have random precisions: what they take beyond
their layers is what boundaries cost. What a layer takes depends on the processor, and never quite repeats: the results
are kept like any other step's, so that a run can.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.config.quantization import QuantizationConfig
from quant_core.errors import UnsupportedError
from quant_core.execution.machine import Machine
from quant_core.execution.progress import watcher
from quant_core.latency.section_models import section_model
from quant_core.latency.sections import Section, WrittenPlan
from quant_core.latency.timed_model import TimedModel
from quant_core.latency.timing import NO_TIME, Timing, timed
from quant_core.model.data.batches import Batch
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import Layer
from quant_core.model.sessions import Numerics, OpenModel, open_nodes
from quant_core.precision import PrecisionPlan
from quant_core.quantization.plan_graph.qdq import PlanWriter
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.runtimes.registry import profile_of
from quant_core.storage.references import Reference

__all__ = ["layer_times"]

_LAYER_SECONDS, _MODEL_SECONDS, _MIX_SECONDS = 0.05, 0.5, 0.15
"""How long each layer, each model with all layers at a precision, and each mix is timed."""
_TOGETHER = 6
"""Mixes that are timed in turns, and with them the first of the models of one precision."""

Values = Mapping[str, NDArray[np.generic]]


def layer_times(
    layers: pa.Table,
    calibration: pa.Table,
    data: Reference,
    precisions: Sequence[str],
    config: QuantizationConfig,
    processor: str,
    machine: Machine,
    batch_size: int = 1,
) -> pa.Table:
    """Return the milliseconds of each layer at each precision and of random mixes, for one sample (schema TIMES).

    Args:
        layers: layer table of the prepared model (schema LAYERS).
        calibration: its histograms (schema CALIBRATION).
        data: samples, of which the first batch is run.
        precisions: those that are timed.
        config: how layers are quantized, and for which runtime.
        processor: where this is: times of one processor are not taken for another's.
        machine: cache.
        batch_size: samples that are run at once.

    Raises UnsupportedError when the runtime cannot run the model at a precision.

    """
    model = TimedModel.of(QuantizationRecipe(layers, calibration, config), data, precisions, batch_size, machine)
    plans = {
        precision: _written_plan(PlanWriter(model.quantizer, folded=False), plan)
        for precision, plan in model.uniform.items()
    }
    watcher().expects("latency", len(model.layers) + 1 + math.ceil(len(model.mixes) / _TOGETHER))
    rows = [*_model_rows(plans, model.batch), *_layer_rows(plans, model.layers, model.batch)]
    rows += _mix_rows(model, plans[precisions[0]], rows[0])
    return model.table(rows)


def _written_plan(writer: PlanWriter, plan: PrecisionPlan) -> WrittenPlan:
    quantizer = writer.quantizer
    runtime = quantizer.config.runtime
    return WrittenPlan(quantizer.graph, quantizer.topology, writer.write(plan), writer.constants, runtime)


def _model_rows(plans: Mapping[str, WrittenPlan], batch: Batch) -> Iterator[dict[str, object]]:
    """Rows of the whole model."""
    calls = [
        _call(plan, _whole(plan), batch.feeds, f"the model with all layers at {precision}")
        for precision, plan in plans.items()
    ]
    yield from _rows(None, list(plans), timed(calls, _MODEL_SECONDS), batch)


def _whole(plan: WrittenPlan) -> Section:
    return Section(plan.written.nodes, tuple(plan.graph.inputs), plan.graph.outputs)


def _mix_rows(model: TimedModel, first: WrittenPlan, known: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """Rows of whole models with mixed precisions, some at a time.

    `first` is the model whose layers all have the first precision; it is timed beside every few mixes. `known` is its
    row, by which times are scaled: the machine may be slower now than when it was timed.
    """
    writer = PlanWriter(model.quantizer, folded=False)
    for start in range(0, len(model.mixes), _TOGETHER):
        some = model.mixes[start : start + _TOGETHER]
        plans = [first, *(_written_plan(writer, plan) for plan in some)]
        calls = [_call(plan, _whole(plan), model.batch.feeds, "a mix of precisions") for plan in plans]
        now, *found = timed(calls, _MIX_SECONDS)
        for plan, timing in zip(some, found, strict=True):
            yield {
                "mix": json.dumps(plan.as_dict()),
                "milliseconds": timing.fastest * float(str(known["milliseconds"])) / now.fastest,
                "median": timing.median * float(str(known["median"])) / now.median,
                "turns": timing.turns,
            }
        watcher().advanced("latency", 1)


def _layer_rows(plans: Mapping[str, WrittenPlan], layers: Sequence[Layer], batch: Batch) -> Iterator[dict[str, object]]:
    sections = {precision: {layer.name: plan.section(layer) for layer in layers} for precision, plan in plans.items()}
    values = {precision: _values(plans[precision], found.values(), batch) for precision, found in sections.items()}
    nothing = _nothing(next(iter(plans.values())).runtime)
    for layer in layers:
        calls = [
            _call(plan, sections[precision][layer.name], values[precision], f"layer {layer.name} at {precision}")
            for precision, plan in plans.items()
        ]
        *found, empty = timed([*calls, nothing], _LAYER_SECONDS)
        yield from _rows(layer.name, list(plans), found, batch, empty)


def _rows(
    layer: str | None, precisions: Sequence[str], found: Sequence[Timing], batch: Batch, empty: Timing = NO_TIME
) -> Iterator[dict[str, object]]:
    watcher().advanced("latency", 1)
    samples = batch.size
    for precision, timing in zip(precisions, found, strict=True):
        yield {
            "layer": layer,
            "precision": precision,
            "milliseconds": max(timing.fastest - empty.fastest, 0.0) / samples,
            "median": max(timing.median - empty.median, 0.0) / samples,
            "turns": timing.turns,
        }


def _values(plan: WrittenPlan, sections: Iterable[Section], batch: Batch) -> Values:
    """Return the inputs of some sections, for one batch."""
    wanted = dict.fromkeys([*plan.graph.outputs, *(name for section in sections for name in section.inputs)])
    outputs = [name for name in wanted if name not in batch.feeds]
    types = {name: plan.element_type(name) for name in outputs}
    session = open_nodes(plan.graph, plan.written.nodes, outputs, plan.constants, types=types)
    return {**batch.feeds, **session(batch.feeds)}


def _call(plan: WrittenPlan, section: Section, values: Values, what: str) -> Callable[[], object]:
    profile = profile_of(plan.runtime)
    try:
        session = _in_its_runtime(plan, section, values) if profile.package else _in_onnxruntime(plan, section)
        call = session.call_on(values)
        call()
    except Exception as error:  # runtimes raise a class a failure, with no common base of their own
        program = profile.package or "ONNX Runtime"
        raise UnsupportedError(f"{what} cannot be timed: {program} cannot run it: {error}") from error
    return call


def _in_onnxruntime(plan: WrittenPlan, section: Section) -> OpenModel:
    return open_nodes(
        plan.graph,
        section.nodes,
        section.outputs,
        plan.constants,
        Numerics.DEPLOYED,
        types={name: plan.element_type(name) for name in (*section.inputs, *section.outputs)},
        entries=profile_of(plan.runtime).session_entries,
    )


def _in_its_runtime(plan: WrittenPlan, section: Section, values: Values) -> OpenModel:
    """Open a section in a runtime that is no part of ONNX Runtime."""
    return _opened_there(plan.runtime, section_model(plan, section, values))


def _opened_there(runtime: str, model: onnx.ModelProto) -> OpenModel:
    opens = profile_of(runtime).opens
    if opens is None:
        raise UnsupportedError(f"{runtime} is not run here")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "section.onnx")
        onnx.save(model, path)
        return opens(path)


def _nothing(runtime: str) -> Callable[[], object]:
    """A call of a model that hands one number through."""
    number = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node, result = onnx.helper.make_node("Identity", ["x"], ["y"]), onnx.helper.make_tensor_value_info("y", 1, [1])
    graph = onnx.helper.make_graph([node], "nothing", [number], [result])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    if profile_of(runtime).package:
        opened = _opened_there(runtime, model)
    else:
        opened = open_nodes(FloatGraph(model, Path()), [node], ["y"], {}, Numerics.DEPLOYED)
    return opened.call_on({"x": np.zeros(1, np.float32)})
