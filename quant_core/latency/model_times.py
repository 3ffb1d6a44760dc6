"""Stage: times model files against each other, as an application would run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from quant_core.execution.machine import Machine
from quant_core.latency.device_timer import DeviceTimer
from quant_core.latency.timing import Timing, timed
from quant_core.model.data.batches import Batch, batches
from quant_core.model.data.carried_states import step_data
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.sessions import Numerics, open_file
from quant_core.runtimes.registry import profile_of
from quant_core.storage.references import Reference, fetch
from quant_core.storage.schemas import MODEL_TIMES

__all__ = ["model_times"]

_SECONDS = 2.0
"""How long each model is timed where that is asked for."""
_MOMENT = 0.025
"""How long it is timed in passing: enough to tell whether one is slower than another."""


def model_times(
    layers: pa.Table,
    models: Mapping[str, Reference],
    data: Reference,
    processor: str,
    machine: Machine,
    session: Mapping[str, str] | None = None,
    timer: DeviceTimer | None = None,
    runtime: str = "reference",
    brief: bool = False,
    batch_size: int = 1,
) -> pa.Table:
    """Milliseconds of model files, by what they are called, for one sample (schema MODEL_TIMES).

    As their runtime opens them (ONNX Runtime, fully optimised, for one that is not run here), on one thread, all models
    in turns; or with the user's own timer, one after the other.

    Args:
        layers: layer table of the prepared model.
        models: the files.
        data: what they are run on: the first batch.
        processor: says where; results of one are not taken for another's.
        machine: where files are.
        session: session options of the runtime.
        runtime: where they will run.
        timer: the user's own, which is called in place of ONNX Runtime.
        brief: whether to time them for a moment only. Then the fastest turn counts: a busy machine slows several of the
            few turns, and so their median.
        batch_size: samples of a call, where the model leaves that open.

    """
    graph = prepared_graph(layers, machine.cache)
    batch = next(batches(graph, step_data(graph, data, machine.cache), batch_size))
    if timer is None:
        found = timed(
            [_call(reference, batch, machine, session, runtime) for reference in models.values()],
            _MOMENT if brief else _SECONDS,
        )
    else:
        files = [fetch(reference, machine.cache) for reference in models.values()]
        found = [Timing(taken, taken, 1) for taken in (timer.milliseconds(file, batch.feeds) for file in files)]
    samples = batch.size
    rows = [
        {
            "model": name,
            "milliseconds": (timing.fastest if brief else timing.median) / samples,
            "fastest": timing.fastest / samples,
            "turns": timing.turns,
        }
        for name, timing in zip(models, found, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=MODEL_TIMES)


def _call(
    reference: Reference, batch: Batch, machine: Machine, entries: Mapping[str, str] | None, runtime: str
) -> Callable[[], object]:
    opens, path = profile_of(runtime).opens, fetch(reference, machine.cache)
    session = opens(path) if opens else open_file(path, Numerics.DEPLOYED, entries=entries)
    return session.call_on(batch.feeds)
