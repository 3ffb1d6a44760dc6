"""Calls the pipeline's stages as Prefect tasks, with results stored under their keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from prefect import get_run_logger
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from quant_core.calibration import calibrate as tensor_histograms
from quant_core.evaluation import evaluate_plan, float_outputs, score_file
from quant_core.export import export as quantized_file
from quant_core.machine import Machine
from quant_core.prepare import prepare as prepare_model
from quant_core.probe import layer_sensitivity
from quant_core.progress import watcher
from quant_core.stages import Call, StageFunction, Stages
from tasks.baseline import baseline
from tasks.calibrate import calibrate
from tasks.evaluate import evaluate
from tasks.export import export
from tasks.prepare import prepare
from tasks.probe import probe
from tasks.result_store import ResultStore
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


_Threads = ThreadPoolTaskRunner[pa.Table]


def _warn(message: str) -> None:
    """Say it in the run's log, and to whoever watches."""
    get_run_logger().warning(message)
    watcher().warned(message)


class PrefectStages(Stages):
    """Stages as tasks of the flow that is running. A stage that was computed before is taken from the store."""

    def __init__(self, machine: Machine, store: ResultStore) -> None:
        super().__init__(machine)
        self._store = store

    def _call(
        self, calls: Sequence[Call], workers: int, valid: Callable[[pa.Table], bool] | None = None
    ) -> list[pa.Table]:
        machine = self.machine if workers == 1 else Machine(self.machine.cache, workers=1)
        with _Threads(max_workers=workers) as runner:
            labels = [f" {number}/{len(calls)}" if len(calls) > 1 else "" for number in range(1, len(calls) + 1)]
            futures = [
                runner.submit(*self._task(call, label, machine)) for call, label in zip(calls, labels, strict=True)
            ]
            tables = [self._result(future) for future in futures]
            if valid is not None and not valid(tables[0]):
                _warn(f"the file that {_TASKS[calls[0][0]].name} made is gone or damaged; it is made again")
                tables = [self._result(runner.submit(*self._task(calls[0], "", machine, refresh=True)))]
        return tables

    def _task(
        self, call: Call, label: str, machine: Machine, refresh: bool = False
    ) -> tuple[StageTask, dict[str, Any]]:
        """The task of a call, set up for the store, and its parameters; a damaged result is said and replaced."""
        function, arguments = call
        stage = _TASKS[function]
        key = step_key(stage.name, arguments)
        damage = self._store.settle(key)
        if damage:
            _warn(f"the stored result of {stage.name}{label} is damaged and computed again: {damage}")
        prepared = stage.with_options(
            cache_policy=GivenKey().configure(key_storage=self._store.records),
            result_storage=self._store.results,
            refresh_cache=refresh,
        )
        return prepared, {"key": key, "label": stage.name + label, "arguments": arguments, "machine": machine}

    def _result(self, future: PrefectFuture[pa.Table]) -> pa.Table:
        table = future.result()
        if future.state.name == "Cached":
            self.cached += 1
        else:
            self.computed += 1
        return table
