"""Calls the pipeline's stages as Prefect tasks, with results stored under their keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Self

import pyarrow as pa

from quant_core.calibration import calibrate as tensor_histograms
from quant_core.evaluation import evaluate_plan, float_outputs, score_file
from quant_core.export import export as quantized_file
from quant_core.machine import Machine
from quant_core.prepare import prepare as prepare_model
from quant_core.probe import layer_sensitivity
from quant_core.stages import Call, StageFunction, Stages
from tasks.baseline import baseline
from tasks.calibrate import calibrate
from tasks.evaluate import evaluate
from tasks.export import export
from tasks.fleet import Fleet, Step, fleet_of, warn
from tasks.prepare import prepare
from tasks.probe import probe
from tasks.result_store import ResultStore
from tasks.runner import THREADS, Runner
from tasks.stage_task import StageTask
from tasks.step_key import GivenKey, step_key
from tasks.verify import verify

__all__ = ["PrefectStages"]

_TASKS: Mapping[StageFunction, StageTask] = {
    prepare_model: prepare,
    tensor_histograms: calibrate,
    float_outputs: baseline,
    evaluate_plan: evaluate,
    layer_sensitivity: probe,
    quantized_file: export,
    score_file: verify,
}


class PrefectStages(Stages):
    """Stages as tasks of the flow that is running. A stage that was computed before is taken from the store.

    Use it in a `with` block, whose end lets go of what ran the calls of fan-outs.
    """

    def __init__(self, machine: Machine, store: ResultStore, runner: Runner = THREADS) -> None:
        super().__init__(machine)
        self._store = store
        self._here = fleet_of(THREADS, 1)
        self._fleet = fleet_of(runner, machine.workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._here.close()
        self._fleet.close()

    def _call(self, calls: Sequence[Call], valid: Callable[[pa.Table], bool] | None = None) -> list[pa.Table]:
        fleet, machine = self._here if len(calls) == 1 else self._fleet, self._share(calls)
        labels = [f" {number}/{len(calls)}" if len(calls) > 1 else "" for number in range(1, len(calls) + 1)]
        tables = self._run(fleet, [self._step(call, label, machine) for call, label in zip(calls, labels, strict=True)])
        if valid is not None and not valid(tables[0]):
            warn(f"the file that {_TASKS[calls[0][0]].name} made is gone or damaged; it is made again")
            tables = self._run(fleet, [self._step(calls[0], "", machine, refresh=True)])
        return tables

    def _run(self, fleet: Fleet, steps: Sequence[Step]) -> list[pa.Table]:
        """Results of the steps, in their order; what is stored is read here, whoever runs the others."""
        stored = iter(self._here.run([step for step in steps if step.stored]))
        missing = iter(fleet.run([step for step in steps if not step.stored]))
        done = [next(stored if step.stored else missing) for step in steps]
        self.cached += sum(step.cached for step in done)
        self.computed += sum(not step.cached for step in done)
        return [step.table for step in done]

    def _step(self, call: Call, label: str, machine: Machine, refresh: bool = False) -> Step:
        """The task of a call, set up for the store, and its parameters; a damaged result is said and replaced."""
        function, arguments = call
        stage = _TASKS[function]
        key = step_key(stage.name, arguments)
        damage = self._store.settle(key)
        if damage:
            warn(f"the stored result of {stage.name}{label} is damaged and computed again: {damage}")
        prepared = stage.with_options(
            cache_policy=GivenKey().configure(key_storage=self._store.records),
            result_storage=self._store.results,
            refresh_cache=refresh,
        )
        parameters = {"key": key, "label": stage.name + label, "arguments": arguments, "machine": machine}
        return Step(prepared, parameters, stored=not refresh and self._store.holds(key))
