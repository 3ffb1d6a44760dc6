"""Runs the flow for a command and shows what comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from flows.temporary_server import Serving
    from quant_core.config import RunConfig
    from quant_core.pipeline.output import Outcome

__all__ = ["quantize"]


def quantize(inputs: dict[str, Any], config: RunConfig, as_json: bool, serving: Serving) -> int:
    """Run the flow and show what comes of it; the exit code."""
    from flows.command_line.terminal import TerminalWatcher, WarningWatcher, console, print_outcome
    from flows.request import request_for
    from quant_core.errors import TargetError
    from quant_core.execution.progress import watched_by
    from quant_core.pipeline.preflight import check_request
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
        check_request(request_for(**asked, config=config, output=inputs["out"]), workspace.cache)
        try:
            manifest = _run_flow(inputs, config, serving)
        except TargetError as error:
            missed, manifest = str(error), dict(cast("Outcome", error.outcome).manifest)
    if as_json:
        click.echo(manifest_json(manifest))
    else:
        print_outcome(screen, manifest, inputs["out"])
    if missed:
        which = "nearest" if manifest["narrowed"]["layers"] else "wide"
        click.echo(f"narrowcast: {missed}; the {which} model is in {inputs['out']}", err=True)
    return 0 if is_met(manifest) else 3


def _run_flow(inputs: dict[str, Any], config: RunConfig, serving: Serving) -> dict[str, Any]:
    """Run the flow that the configuration is of, as soon as Prefect's server answers."""
    # What takes long to import is imported while the server starts; Prefect needs the encoders for every run.
    import fastapi.encoders  # noqa: F401

    from flows.auto_mixed_precision import auto_mixed_precision
    from flows.layer_wise import layer_wise
    from quant_core.config import LayerWiseConfig

    shared = ("model", "calibration", "evaluation", "holdout", "workers", "workspace")
    given: dict[str, Any] = {"config": config, "output": inputs["out"], **{name: inputs[name] for name in shared}}
    with serving():
        if isinstance(config, LayerWiseConfig):
            return cast("dict[str, Any]", layer_wise(tensors=inputs["tensors"], **given))
        runner, address = inputs["runner"] or "thread", inputs["runner_address"]
        return cast("dict[str, Any]", auto_mixed_precision(runner=runner, runner_address=address, **given))
