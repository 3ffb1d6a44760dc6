"""What a finished run says of the runtime that its file is for."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from quant_core.config import RunConfig
from quant_core.execution.runner import Runner
from quant_core.latency import processor_name
from quant_core.manifest import Deployed
from quant_core.pipeline.findings import Findings
from quant_core.runtimes.profile import RuntimeProfile
from quant_core.runtimes.registry import profile_of
from quant_core.runtimes.written_model import WrittenModel
from quant_core.scoring.agreement import scores_differ
from quant_core.scoring.sequential import projected_scores
from quant_core.storage.references import fetch

__all__ = ["deployed_record", "deployment"]

_MOST_REASONS = 8


def deployment(findings: Findings[RunConfig], on: Runner) -> Deployed:
    """Return how the shipped file of a run does in its runtime, beside what its pairs say."""
    shipped = findings.shipped
    path = fetch(shipped.file, on.machine.cache)
    return deployed_record(findings.study.job.config, path, shipped.scores, shipped.reference)


def deployed_record(config: RunConfig, file: Path, scores: pa.Table, reference: pa.Table) -> Deployed:
    """Return how a file does in its runtime (`scores`, schema SCORES), beside what its pairs say (`reference`)."""
    profile = profile_of(config.runtime)
    differs = scores_differ(scores, reference, config.target.metric)
    return Deployed(
        runtime=profile.name,
        processor=profile.place(processor_name()),
        assumes=profile.assumes,
        session=dict(profile.session_entries),
        reference=projected_scores(reference, scores),
        reference_samples=reference.num_rows,
        differs=differs,
        reasons=tuple(_reasons(profile, file)[:_MOST_REASONS]) if differs else (),
    )


def _reasons(profile: RuntimeProfile, path: Path) -> list[str]:
    """Say what is computed otherwise than the pairs say, as far as the profile's rules or the kernels tell."""
    model = WrittenModel.of_file(path)
    broken = [one for rule in (*profile.rules, *profile.rules_elsewhere) for one in rule.findings(model)]
    found = [f"{one.node}: {one.message}" for one in broken if one.consequence != "slow"]
    if found:
        return found
    integer = [kernel for kernel in (profile.kernels(path) if profile.kernels else ()) if kernel.is_integer]
    if not integer:
        return []
    names = ", ".join(sorted({kernel.runs_as for kernel in integer}))
    return [f"{len(integer)} layers are integer kernels ({names}), which round once where the pairs round twice"]
