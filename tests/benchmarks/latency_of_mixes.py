"""Does the cost latency tell which mixes are fast? Predicted against measured times of random mixes of a model.

    python -m tests.benchmarks.latency_of_mixes --model M.onnx --calibration C.npz [--mixes 20] [--rounds 5]

Layers, models and mixes are timed as a run with `--cost latency` times them (wide float32, narrow au8w8, all
operators). Then other random mixes are written as files, opened in fresh sessions with ONNX Runtime's defaults, and
timed turn about, several rounds over; each has the median of its rounds' fastest calls. What is told is Spearman's rank
correlation of those with the predictions, and beside it that of a sum over layers alone, without boundaries.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from quant_core.calibration.collect import calibrate
from quant_core.config import QuantizationConfig
from quant_core.execution.machine import Machine
from quant_core.latency import layer_times, measured_cost
from quant_core.latency.mixes import mixes
from quant_core.model.layers import layers_from_table
from quant_core.model.model_file import refer_model
from quant_core.model.operators import COMPUTE_OPS, DEFAULT_LAYER_OPS
from quant_core.model.preparation.prepare import prepare
from quant_core.precision import Precision, PrecisionPlan
from quant_core.quantization.export import export, exported_reference
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.runtimes.processor import processor_name
from quant_core.search.cost import CostModel
from quant_core.storage.data import refer_data

__all__ = ["main", "rank_correlation"]

_SEED = 7
"""Another one than that of the mixes that prices are fit from."""
_CALLS = 20
_IN_A_ROW = 4
"""Calls of a turn: only the first has to fetch the weights, as calls that prices are taken from have not."""


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman's, of numbers without ties."""
    ranks = [np.argsort(np.argsort(one)).astype(np.float64) for one in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def main() -> None:
    """Print a row a mix, and both correlations."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder))
        data = refer_data(options.calibration, machine.cache)
        config = QuantizationConfig(wide="float32")
        layers = prepare(
            model=refer_model(options.model), data=data, machine=machine, layer_ops=(*DEFAULT_LAYER_OPS, *COMPUTE_OPS)
        )
        calibration = calibrate(layers=layers, data=data, batch_size=None, machine=machine)
        precisions = ["float32", "au8w8"]
        began = time.perf_counter()
        times = layer_times(layers, calibration, data, precisions, config, processor_name(), machine)
        print(f"timed for the prices in {time.perf_counter() - began:.0f} s, {times.num_rows} rows")
        names = [layer.name for layer in layers_from_table(layers)]
        plans = mixes(names, [Precision.parse(one) for one in precisions], _SEED)[: options.mixes]
        recipe = QuantizationRecipe(layers, calibration, config)
        files = [_file(recipe, plan, machine) for plan in plans]
        batch = {name: np.ascontiguousarray(array[:1]) for name, array in _arrays(options.calibration).items()}
        measured = _measured(files, batch, options.rounds)
    cost = measured_cost(times)
    _tell(plans, measured, cost, _without_mixes(times))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--mixes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def _arrays(path: str) -> dict[str, NDArray[np.generic]]:
    with np.load(path) as data:
        return {name: data[name] for name in data.files}


def _file(recipe: QuantizationRecipe, plan: PrecisionPlan, machine: Machine) -> str:
    return exported_reference(export(recipe, plan.as_dict(), machine), machine.cache).url


def _without_mixes(times: pa.Table) -> CostModel:
    """The prices of layers alone."""
    return replace(measured_cost(times.filter(pc.is_null(times.column("mix")))), boundaries=())


def _measured(files: list[str], batch: dict[str, NDArray[np.generic]], rounds: int) -> NDArray[np.float64]:
    """Milliseconds of each file: the median over rounds of the fastest call of each."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [ort.InferenceSession(file, options, providers=["CPUExecutionProvider"]) for file in files]
    feeds = {value.name: batch[value.name] for value in sessions[0].get_inputs()}
    fastest = np.full((rounds, len(files)), np.inf)
    for turn in range(rounds):
        for _ in range(_CALLS):
            for at, session in enumerate(sessions):
                fastest[turn, at] = min(fastest[turn, at], *(_seconds(session, feeds) for _ in range(_IN_A_ROW)))
    return np.asarray(1e3 * np.median(fastest, axis=0))


def _seconds(session: ort.InferenceSession, feeds: dict[str, NDArray[np.generic]]) -> float:
    began = time.perf_counter()
    session.run(None, feeds)
    return time.perf_counter() - began


def _tell(plans: list[PrecisionPlan], measured: NDArray[np.float64], cost: CostModel, alone: CostModel) -> None:
    predicted, summed = (np.array([one.total(plan) for plan in plans]) for one in (cost, alone))
    print("measured ms  with boundaries  layers alone")
    for row in sorted(zip(measured, predicted, summed, strict=True)):
        print("{:11.3f}  {:15.3f}  {:12.3f}".format(*row))
    print(f"rank correlation {rank_correlation(measured, predicted):.3f}", end=", ")
    print(f"of layers alone {rank_correlation(measured, summed):.3f}")


if __name__ == "__main__":
    main()
