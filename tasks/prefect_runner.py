"""Calls the pipeline's stages as Prefect tasks, with results stored under their keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Self

import pyarrow as pa

from quant_core.calibration.collect import calibrate as tensor_histograms
from quant_core.execution.machine import Machine
from quant_core.execution.runner import Call, StageFunction, Stages
from quant_core.latency import layer_times, model_times
from quant_core.model.prepare import prepare as prepare_model
from quant_core.probing.probe import layer_sensitivity
from quant_core.quantization.export import export as quantized_file
from quant_core.quantization.weight_rounding import rounded_weights
from quant_core.scoring.evaluation import evaluate_plan, float_outputs, score_file
from tasks.baseline import baseline
from tasks.cache.keys import GivenKey, step_key
from tasks.cache.stored_result import StoredResult
from tasks.cache.workspace import Workspace
from tasks.calibrate import calibrate
from tasks.evaluate import evaluate
from tasks.executors.choice import THREADS, Runner
from tasks.executors.executor import Fleet, Step, fleet_of, warn
from tasks.export import export
from tasks.latency import latency
from tasks.prepare import prepare
from tasks.probe import probe
from tasks.retries import smaller_batches
from tasks.round import round_weights
from tasks.run_name import run_name
from tasks.stages import StageTask
from tasks.timing import timing
from tasks.verify import verify

__all__ = ["TASKS", "PrefectStages"]

TASKS: Mapping[StageFunction, StageTask] = {
    prepare_model: prepare,
    tensor_histograms: calibrate,
    rounded_weights: round_weights,
    layer_times: latency,
    model_times: timing,
    float_outputs: baseline,
    evaluate_plan: evaluate,
    layer_sensitivity: probe,
    quantized_file: export,
    score_file: verify,
}


class PrefectStages(Stages):
    """Stages as tasks of the flow that is running. A stage that was computed before is taken from the workspace.

    Use it in a `with` block, whose end lets go of what ran the calls of fan-outs.
    """

    def __init__(self, workspace: Workspace, workers: int, runner: Runner = THREADS) -> None:
        super().__init__(workspace.machine(workers))
        self._workspace = workspace
        self._elsewhere = runner.is_elsewhere
        self._here = fleet_of(THREADS, 1)
        self._fleet = fleet_of(runner, workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._here.close()
        self._fleet.close()

    def _call(self, calls: Sequence[Call], valid: Callable[[pa.Table], bool] | None = None) -> list[pa.Table]:
        fleet, machine = self._here if len(calls) == 1 else self._fleet, self._share(calls)
        if len(calls) > 1 and self._elsewhere:
            self._workspace.files.share_inputs(arguments for _, arguments in calls)
        try:
            tables = self._run(fleet, self._steps(calls, machine))
        except MemoryError:
            tables = self._frugally(calls)
        if valid is not None and not self._is_here(tables[0], valid):
            warn(f"the file that {TASKS[calls[0][0]].name} made is gone or damaged; it is made again")
            tables = self._run(fleet, self._steps(calls[:1], machine, refresh=True))
        return tables

    def _frugally(self, calls: Sequence[Call]) -> list[pa.Table]:
        """Results of calls that memory did not suffice for: one at a time, which changes none, then smaller batches.

        A smaller batch may add up in another order. Its result is stored under a key of its own, and it is said.
        """
        name, machine = TASKS[calls[0][0]].name, self._workspace.machine(1)
        warn(f"memory does not suffice for {name}; from here on, one batch is computed at a time")
        self._fleet.close()
        self._fleet, self.machine = self._here, machine
        try:
            return self._run(self._here, self._steps(calls, machine))
        except MemoryError:
            pass
        for size in smaller_batches(calls[0][1]):
            warn(f"memory does not suffice for {name}; batches of {size}, which may change the last bit of a number")
            with suppress(MemoryError):
                smaller = [(function, {**given, "batch_size": size}) for function, given in calls]
                return self._run(self._here, self._steps(smaller, machine))
        raise MemoryError(f"out of memory in {name}, even for one sample at a time")

    def _is_here(self, table: pa.Table, valid: Callable[[pa.Table], bool]) -> bool:
        """Whether this machine has, or can get, the file that a result names."""
        self._workspace.files.bring(table)
        return valid(table)

    def _run(self, fleet: Fleet, steps: Sequence[Step]) -> list[pa.Table]:
        """Results of the steps, in their order; what is stored is read here, whoever runs the others."""
        stored = iter(self._here.run([step for step in steps if step.stored]))
        missing = iter(fleet.run([step for step in steps if not step.stored]))
        done = [next(stored if step.stored else missing) for step in steps]
        self.cached += sum(step.cached for step in done)
        self.computed += sum(not step.cached for step in done)
        return [step.table for step in done]

    def _steps(self, calls: Sequence[Call], machine: Machine, refresh: bool = False) -> list[Step]:
        names = [
            run_name(TASKS[function].name, arguments, number, len(calls))
            for number, (function, arguments) in enumerate(calls, start=1)
        ]
        return [self._step(call, name, machine, refresh) for call, name in zip(calls, names, strict=True)]

    def _step(self, call: Call, name: str, machine: Machine, refresh: bool) -> Step:
        """The task of a call, set up with what is stored of it, and its parameters; a damaged result is said."""
        function, arguments = call
        stage = TASKS[function]
        key = step_key(stage.name, arguments)
        found = self._workspace.results.find(key)
        if found.flaw:
            warn(f"the stored result of {name} is damaged and computed again: {found.flaw}")
        stored = StoredResult(results=None if refresh else self._workspace.results.place.url)
        stored.payload = None if refresh else found.payload
        prepared = stage.with_options(cache_policy=GivenKey().configure(key_storage=stored))
        # Not as an option: Prefect would want it saved in its database, where nobody looks for it.
        prepared.result_storage = stored
        parameters = {
            "key": key,
            "label": name,
            "arguments": arguments,
            "workspace": self._workspace,
            "workers": machine.workers,
        }
        return Step(prepared, parameters, stored=stored.payload is not None)
