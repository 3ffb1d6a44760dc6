"""Are the verdicts of a search right? Random plans, judged as a search judges them, and measured from their files.

    python -m tests.benchmarks.verdicts MODEL.onnx DATA.npz [--metric top1_drop] [--plans 300] [--limits 8]

The data serves for calibration and for evaluation. A plan has each layer narrow or wide by chance, more or less of them.
It is scored on more and more samples until the verdict is settled, for limits on the metric around its own; then its
file is run on all samples with no optimisation. An accepted plan whose file misses the limit is a wrong verdict; by the
rule of three standard errors there are few, and none misses by more than the error that was stated. Exit code 1 where
one does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from quant_core.config import MixedPrecisionConfig
from quant_core.execution.machine import Machine
from quant_core.execution.runner import Runner
from quant_core.pipeline import steps
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.plans.study import Study
from quant_core.precision import PrecisionPlan
from quant_core.quantization.export import export, exported_reference
from quant_core.scoring.by_margin import ByMargin
from quant_core.scoring.evaluation import evaluate_plan, score_file
from quant_core.scoring.metrics import METRICS
from quant_core.scoring.sequential import EvenVisits, Visits, evaluation_rounds, in_data_order

_SPREAD = 0.03
"""Limits are that share of a plan's distance above and below it."""
_SAMPLES = 8
"""Limits of a drop in accuracy are up to so many samples above and below a plan's own."""


@dataclass(frozen=True)
class Verdict:
    """What was said of a plan, and what is so."""

    accepted: bool
    """Whether it was taken to meet the limit."""
    samples: int
    """Samples it took."""
    stated: float
    """The error that the verdict allowed for."""
    missed_by: float
    """How far the file is beyond the limit; negative within it."""


def begun(model: Path, data: Path, folder: Path, workers: int, metric: str = "l2") -> tuple[Study, Runner]:
    """Return a study with the wide plan scored on all samples."""
    job = QuantizationJob.of(
        str(model), str(data), str(data), None, MixedPrecisionConfig(target={"metric": metric, "limit": 1}),
        folder / "out", folder,
    )  # fmt: skip
    on = Runner(Machine(folder, workers))
    layers = steps.prepare(job, on)
    return steps.baseline(job, layers, steps.calibrate(job, layers, on), on), on


def random_plan(study: Study, generator: np.random.Generator) -> PrecisionPlan:
    """Return a plan with some layers narrow."""
    chance = generator.uniform()
    chosen = [name for name in study.candidates if generator.uniform() < chance]
    return study.wide.plan.narrowed(dict.fromkeys(chosen, study.job.config.narrow[0]))


def verdicts(study: Study, on: Runner, plan: PrecisionPlan, limits: int) -> list[Verdict]:
    """Judge a plan for some limits around its own score, and measure its file."""
    metric, count = study.job.config.target.metric, study.baseline.num_rows
    file = exported_reference(export(study.recipe, plan.as_dict(), on.machine), on.machine.cache)
    scores = score_file(file, study.layers, study.baseline, study.job.evaluation, None, None, on.machine)
    measured = METRICS[metric](scores).value
    reach = _SPREAD * measured if metric == "l2" else _SAMPLES / count
    by_margin = metric != "l2" and ByMargin.known(study.wide.scores)
    visits: Visits = ByMargin(study.wide.scores) if by_margin else EvenVisits(count, study.wide.scores)
    stops = evaluation_rounds(count, "auto", first_share=visits.first_share)
    ends = list(pairwise([0, *stops]))
    rounds = [
        evaluate_plan(
            study.recipe,
            study.baseline,
            visits.samples(study.job.evaluation, *pair),
            plan.as_dict(),
            None,
            None,
            on.machine,
        )
        for pair in ends
    ]
    rows = [visits.rows(*pair) for pair in ends]
    seen = [in_data_order(rounds[:number], rows[:number]) for number in range(1, len(stops) + 1)]
    return [_verdict(study, visits, seen, measured + by, measured) for by in np.linspace(-reach, reach, limits)]


def _verdict(study: Study, visits: Visits, seen: list[pa.Table], limit: float, measured: float) -> Verdict:
    target = study.job.config.target.model_copy(update={"limit": limit})
    for scores in seen[:-1]:
        projection = visits.project(target.metric, scores)
        accepted = projection.verdict(target)
        if accepted is not None:
            return Verdict(accepted, scores.num_rows, 3 * projection.uncertain, measured - limit)
    return Verdict(target.met_by(METRICS[target.metric](seen[-1]).value), seen[-1].num_rows, 0.0, measured - limit)


def main() -> None:
    """Judge as many plans as the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--metric", choices=["l2", "top1_drop"], default="l2")
    parser.add_argument("--plans", type=int, default=300)
    parser.add_argument("--limits", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    generator = np.random.default_rng(0)
    found: list[Verdict] = []
    with tempfile.TemporaryDirectory() as folder:
        study, on = begun(asked.model, asked.data, Path(folder), asked.workers, asked.metric)
        for _ in range(asked.plans):
            found += verdicts(study, on, random_plan(study, generator), asked.limits)
    early = [one for one in found if one.samples < study.baseline.num_rows]
    wrong = [one for one in found if one.accepted and one.missed_by > 0]
    beyond = [one for one in wrong if one.missed_by > one.stated]
    refused = [one for one in found if not one.accepted and one.missed_by <= 0]
    print(f"{len(found)} verdicts on {asked.plans} plans: {len(early)} on a part of the samples, "
          f"{sum(one.samples for one in found) / len(found) / study.baseline.num_rows:.0%} of them on average")  # fmt: skip
    print(f"accepted, and the file misses: {len(wrong)}, by more than the stated error: {len(beyond)}; "
          f"refused, and the file is within: {len(refused)}")  # fmt: skip
    sys.exit(bool(beyond))


if __name__ == "__main__":
    main()
