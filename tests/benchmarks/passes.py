"""What each step of a run takes, in passes of the plain float model over the evaluation data.

    python -m tests.benchmarks.passes MODEL.onnx DATA.npz --max-l2 0.5 [--repeats 3]

The data serves for calibration and for evaluation. A pass is the float model in ONNX Runtime with default options, two
threads and batches of 64. Both are counted in processor time over all threads, pass and run in turn: other work on
the machine disturbs that less than the time on the wall. The engine runs in this process, without Prefect.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime as ort

from quant_core.config import MixedPrecisionConfig
from quant_core.execution.machine import Machine
from quant_core.execution.runner import Runner
from quant_core.pipeline.auto import run_auto
from quant_core.pipeline.job import QuantizationJob
from quant_core.results.outcome import Outcome

_BATCH = 64


class ProcessorRunner(Runner):
    """Counts the processor seconds of each step."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.processor: dict[str, float] = {}

    @contextmanager
    def _accounted(self, step: str) -> Iterator[None]:
        began = time.process_time()
        with super()._accounted(step):
            yield
        self.processor[step] = self.processor.get(step, 0.0) + time.process_time() - began


def float_pass(model: Path, data: Path) -> float:
    """Return the processor seconds of a pass; that of opening the session and of a first batch is not in it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    # A thread that waits would be counted.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    with np.load(data) as archive:
        feeds = {value.name: archive[value.name] for value in session.get_inputs()}
    count = len(next(iter(feeds.values())))
    batches = [
        {name: values[first : first + _BATCH] for name, values in feeds.items()} for first in range(0, count, _BATCH)
    ]
    session.run(None, batches[0])
    began = time.process_time()
    for batch in batches:
        session.run(None, batch)
    return time.process_time() - began


def run(model: Path, data: Path, limit: float, folder: Path, workers: int) -> tuple[ProcessorRunner, Outcome]:
    """Quantize the model, all in the folder."""
    config = MixedPrecisionConfig(target={"metric": "l2", "limit": limit})
    job = QuantizationJob.of(str(model), str(data), str(data), None, config, folder / "out", folder)
    runner = ProcessorRunner(Machine(folder, workers))
    return runner, run_auto(job, runner)


def main() -> None:
    """Print the steps' passes, the median of some repeats."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--max-l2", type=float, required=True)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    steps: dict[str, list[float]] = {}
    for _ in range(asked.repeats):
        before = float_pass(asked.model, asked.data)
        with tempfile.TemporaryDirectory() as folder:
            runner, outcome = run(asked.model, asked.data, asked.max_l2, Path(folder), asked.workers)
        one = (before + float_pass(asked.model, asked.data)) / 2
        for step, seconds in {**runner.processor, "sum": sum(runner.processor.values())}.items():
            steps.setdefault(step, []).append(seconds / one)
        found = outcome.manifest
        print(f"a pass: {one:.2f} s; {found.narrowed.layers} of {found.narrowed.of} layers narrowed, "
              f"{found.work.evaluations} plans, model {found.output.sha256[:12]}", flush=True)  # fmt: skip
    for step, passes in steps.items():
        print(f"{step:10} {median(passes):6.2f}")


if __name__ == "__main__":
    main()
