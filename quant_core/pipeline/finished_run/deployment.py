"""What a finished run says of the runtime that its file is for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import pyarrow as pa

from quant_core.config import RunConfig
from quant_core.execution.runner import Runner
from quant_core.manifest import Deployed, LayerRun, Pace
from quant_core.pipeline.finished_run.findings import Findings
from quant_core.runtimes.faster import faster_options, is_slower
from quant_core.runtimes.kernels import LayerKernel
from quant_core.runtimes.profile import RuntimeProfile
from quant_core.runtimes.registry import profile_of
from quant_core.runtimes.written_model import WrittenModel
from quant_core.scoring.agreement import scores_differ
from quant_core.scoring.sequential import projected_scores
from quant_core.storage.references import fetch

__all__ = ["deployed_record", "deployment", "milliseconds_of"]

_MOST_REASONS = 8


def deployment(findings: Findings[RunConfig], on: Runner) -> Deployed:
    """Return how the shipped file of a run does in its runtime, beside what its pairs say."""
    shipped, config = findings.shipped, findings.study.job.config
    path = fetch(shipped.file, on.machine.cache)
    layers = dict(shipped.plan.layers)
    return deployed_record(config, path, layers, shipped.scores, shipped.reference, findings.times)


def deployed_record(
    config: RunConfig,
    file: Path,
    layers: Collection[str],
    scores: pa.Table,
    reference: pa.Table,
    times: pa.Table | None,
) -> Deployed:
    """Return how a file does in its runtime, beside what its pairs say.

    Args:
        config: the run's options.
        file: the model file.
        layers: names of the layers of its plan; a file has a node more for each layer of several nodes.
        scores: what it scores in the runtime (schema SCORES).
        reference: what its pairs score.
        times: how long it and the float model take (schema MODEL_TIMES); None where that is not known.

    """
    profile = profile_of(config.runtime)
    differs = scores_differ(scores, reference, config.target.metric)
    kernels = profile.kernels(file) if profile.kernels else []
    pace = (
        _pace(times, config.time_batch)
        if times is not None and config.timer is None and profile.is_timed_here
        else None
    )
    return Deployed(
        runtime=profile.name,
        processor=profile.place,
        assumes=profile.assumes,
        session=dict(profile.session_entries),
        reference=projected_scores(reference, scores),
        reference_samples=reference.num_rows,
        differs=differs,
        reasons=tuple(_reasons(profile, file, kernels)[:_MOST_REASONS]) if differs else (),
        layers=tuple(map(_layer_run, kernels)),
        pace=pace,
        faster=_faster(config, [kernel for kernel in kernels if kernel.layer in layers], pace),
    )


def _layer_run(kernel: LayerKernel) -> LayerRun:
    return LayerRun(layer=kernel.layer, runs_as=kernel.runs_as, is_integer=kernel.is_integer, why=kernel.why)


def _faster(config: RunConfig, kernels: Sequence[LayerKernel], pace: Pace | None) -> str:
    if pace is None or not is_slower(pace.mixed, pace.float):
        return ""
    return faster_options(config.wide, kernels, saves_latency=config.counts_latency)


def _pace(times: pa.Table, batch: int) -> Pace:
    taken = milliseconds_of(times)
    return Pace(float=taken["float"], mixed=taken["mixed"], batch=batch)


def milliseconds_of(times: pa.Table) -> dict[str, float]:
    """Return what a sample takes, by what models are called (of schema MODEL_TIMES)."""
    return dict(zip(*(times.column(name).to_pylist() for name in ("model", "milliseconds")), strict=True))


def _reasons(profile: RuntimeProfile, path: Path, kernels: Sequence[LayerKernel]) -> list[str]:
    """Say what is computed otherwise than the pairs say, as far as the profile's rules or the kernels tell."""
    model = WrittenModel.of_file(path)
    broken = [one for rule in (*profile.rules, *profile.rules_elsewhere) for one in rule.findings(model)]
    found = [f"{one.node}: {one.message}" for one in broken if one.consequence != "slow"]
    if found:
        return found
    integer = [kernel for kernel in kernels if kernel.is_integer]
    if not integer:
        return []
    names = ", ".join(sorted({kernel.runs_as for kernel in integer}))
    count = "1 layer is an integer kernel" if len(integer) == 1 else f"{len(integer)} layers are integer kernels"
    return [f"{count} ({names}), which {'rounds' if len(integer) == 1 else 'round'} once where the pairs round twice"]
