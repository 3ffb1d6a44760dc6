"""The race for samples: every round probes the layers whose place in the ranking is not settled yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

import pyarrow as pa

from quant_core.config import AnalysisConfig, MixedPrecisionConfig
from quant_core.execution.progress import watcher
from quant_core.execution.runner import Arguments, Runner
from quant_core.model.layers import Layer, layers_from_table
from quant_core.pipeline.plans.study import Study
from quant_core.pipeline.stages import PROBE
from quant_core.precision import PER_TENSOR, Precision, PrecisionPlan
from quant_core.probing.racing import losses_by_probe, open_probes, probe_macs, sample_rounds
from quant_core.probing.shards import probe_samples, probe_shards
from quant_core.scoring.sampling import Samples

__all__ = ["probe_rounds"]

Probed = Study[MixedPrecisionConfig] | Study[AnalysisConfig]
"""A study of which layers are probed."""


def probe_rounds(study: Probed, on: Runner, some: Collection[str] | None = None) -> list[pa.Table]:
    """Probe candidates at every precision below the start, round by round; one table a shard (schema PROBES).

    These are all that are probed in the study, or `some` of them.
    """
    config, listed = study.job.config, layers_from_table(study.layers)
    racing = [
        (name, str(precision))
        for precision in study.ladder[1:]
        if _is_worth_probing(study, precision)
        for name in study.probed
        if some is None or name in some
    ]
    shards = _shards(listed, racing)
    tables: list[pa.Table] = []
    start = 0
    for stop in sample_rounds(study.baseline.num_rows, config.samples, probe_macs(study.macs, len(racing))):
        racing = open_probes(losses_by_probe(tables)) if tables else racing
        if not racing:
            break
        watcher().expects("probe", len(racing) * (stop - start))
        tables += on.fan_out(
            PROBE, _calls(shards, racing, Samples(study.job.evaluation, start, stop)), **_common_arguments(study)
        )
        start = stop
    return tables


def _is_worth_probing(study: Probed, precision: Precision) -> bool:
    """Return whether a precision of one scale a weight saves something over the same bits with a scale a channel."""
    channels = replace(precision, block=None)
    if precision.block != PER_TENSOR or channels not in study.ladder or not study.job.config.saves_bytes:
        return True
    cost, names = study.costs["bytes"], [name for name, _ in study.wide.plan.layers]
    many, one = (cost.total(PrecisionPlan.uniform(names, each)) for each in (channels, precision))
    return many - one >= _LEAST_SAVING * cost.total(study.wide.plan)


_LEAST_SAVING = 1 / 50
"""Share of the wide model's bytes that scales, and biases beside them, must save to be worth a search."""


def _common_arguments(study: Probed) -> Arguments:
    """Return what all probes are given."""
    config = study.job.config
    return {
        "recipe": study.recipe,
        "start_plan": study.start.plan.as_dict(),
        "tensors": study.start.plan.tensor_types(),
        "loss": config.rank,
        "output": config.output,
        "batch_size": config.batch_size,
        "baseline": study.baseline if config.rank == "l2-float" else None,
        "blocks": {block[0]: list(block) for block in study.blocks},
    }


def _shards(layers: Sequence[Layer], probes: Sequence[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Part probes into shards, each a precision and names, so that another candidate precision changes none."""
    by_precision: dict[str, set[str]] = {}
    for name, precision in probes:
        by_precision.setdefault(precision, set()).add(name)
    return [
        (precision, shard)
        for precision, names in by_precision.items()
        for shard in probe_shards([layer for layer in layers if layer.name in names])
    ]


def _calls(
    shards: Sequence[tuple[str, list[str]]], racing: Sequence[tuple[str, str]], samples: Samples
) -> list[Arguments]:
    """Return the calls that probe what is still racing of each shard, a probe's samples in ascending order.

    All samples of a shard, then the next: calls that follow each other share its sessions, and so do the rounds.
    """
    still = set(racing)
    left = [(precision, shard, [name for name in shard if (name, precision) in still]) for precision, shard in shards]
    shards_of = Counter(precision for precision, _, some in left if some)
    return [
        {"shard": some, "opened_for": shard, "precision": precision, "samples": Samples(samples.data, *ends)}
        for precision, shard, some in left
        if some
        for ends in probe_samples(samples.start, samples.stop, shards_of[precision])
    ]
