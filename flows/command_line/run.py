"""Runs the flow for a command and shows what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from flows.temporary_server import Serving
    from quant_core.config import RunConfig
    from quant_core.results.outcome import Outcome

__all__ = ["quantize"]


def quantize(inputs: dict[str, Any], config: RunConfig, as_json: bool, serving: Serving) -> int:
    """Run the flow and show what comes of it; the exit code."""
    from flows.command_line.terminal import TerminalWatcher, WarningWatcher, console, print_outcome
    from quant_core.errors import TargetError
    from quant_core.execution.progress import watched_by
    from quant_core.manifest import Manifest
    from quant_core.pipeline.job import QuantizationJob
    from quant_core.pipeline.preflight import check_job
    from quant_core.report.verdict import is_met
    from quant_core.results.manifest_file import manifest_json
    from tasks.cache.workspace import Workspace

    screen = console()
    watcher = WarningWatcher() if as_json else TerminalWatcher(screen, config.target)
    missed = None
    with watcher.shown(), watched_by(watcher):
        # Bad input is refused here, while Prefect takes its seconds to start.
        asked = {name: inputs[name] for name in ("model", "calibration", "evaluation", "holdout")}
        asked["evaluation"] = asked["evaluation"] or asked["calibration"]
        workspace = Workspace.at(inputs["workspace"])
        workspace.check()
        job = QuantizationJob.of(**asked, config=config, output=inputs["out"], cache=workspace.cache)
        check_job(job, workspace.cache)
        try:
            call = _flow_call(inputs, config)
            with serving():
                manifest = Manifest.model_validate(call())
        except TargetError as error:
            missed, manifest = str(error), cast("Outcome", error.outcome).manifest
    if as_json:
        click.echo(manifest_json(manifest))
    else:
        print_outcome(screen, manifest, inputs["out"])
    if missed:
        which = "nearest" if manifest.narrowed.layers else "wide"
        click.echo(f"narrowcast: {missed}; the {which} model is in {inputs['out']}", err=True)
    return 0 if is_met(manifest) else 3


def _flow_call(inputs: dict[str, Any], config: RunConfig) -> Callable[[], dict[str, Any]]:
    """Return the call of the flow that the configuration is of, with its parameters."""
    # What takes long to import is imported while the server starts; Prefect needs the encoders for every run.
    import fastapi.encoders  # noqa: F401

    from flows.auto_mixed_precision import auto_mixed_precision
    from flows.layer_wise import layer_wise
    from quant_core.config import LayerWiseConfig

    names = ["model", "calibration", "evaluation", "holdout", "workers", "workspace"]
    layer_wise_job = isinstance(config, LayerWiseConfig)
    names += ["tensors"] if layer_wise_job else ["runner", "runner_address"]
    given = {name: inputs[name] for name in names}
    return partial(layer_wise if layer_wise_job else auto_mixed_precision, config=config, output=inputs["out"], **given)
