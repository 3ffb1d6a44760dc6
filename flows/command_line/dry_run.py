"""`--dry-run`: what a run would have to do."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from flows.command_line.asked_job import asked_job
from flows.command_line.progress_lines import duration
from quant_core.config import RunConfig
from quant_core.execution.machine import available_cores
from tasks.dry_run import DryRun, dry_run

__all__ = ["print_dry_run"]


def print_dry_run(inputs: dict[str, Any], config: RunConfig, as_json: bool) -> None:
    """Print which steps are there, what is left, and about how long that takes; computes no step of the run."""
    job, workspace = asked_job(inputs, config)
    found = dry_run(job, workspace, inputs["workers"] or available_cores())
    click.echo(json.dumps(asdict(found) | {"seconds": found.seconds}, indent=2) if as_json else _told(found))


def _told(found: DryRun) -> str:
    there = ", ".join(f"{stage} {steps}" for stage, steps in found.cached.items())
    lines = [f"from earlier runs: {there}" if there else "from earlier runs: nothing"]
    if found.stage is None:
        return "\n".join([*lines, "to do: nothing; the same run would only write its output folder"])
    lines.append(f"first to be computed: {found.stage}, {found.missing} step{'s' if found.missing > 1 else ''}")
    width = max((len(stage.work) for stage in found.ahead), default=0)
    for stage in found.ahead:
        seconds = "time unknown" if stage.seconds is None else f"about {duration(stage.seconds)}"
        lines.append(f"  {stage.stage:<11} {stage.work:<{width}}  {seconds}")
    besides = "the steps of unknown time and " if any(stage.seconds is None for stage in found.ahead) else ""
    lines.append(f"about {duration(found.seconds)} at most in all, plus {besides}a few seconds for Prefect to start")
    return "\n".join(lines)
