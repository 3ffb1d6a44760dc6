"""Runs the flow for a command and shows what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from rich.console import Console

    from flows.temporary_server import RunServer
    from quant_core.config import RunConfig
    from quant_core.manifest import Manifest
    from quant_core.pipeline.job import QuantizationJob
    from quant_core.results.outcome import Outcome
    from tasks.cache.workspace import Workspace
    from tasks.head_start import Prepared

__all__ = ["quantize"]


def quantize(inputs: dict[str, Any], config: RunConfig, as_json: bool) -> int:
    """Run the flow on the server of the command that is running, and show what comes of it; the exit code."""
    from flows.temporary_server import prefect_server
    from quant_core.storage.references import refer

    command = click.get_current_context()
    refer(inputs["model"])  # for a mistyped name nothing is started
    server: RunServer = command.obj or command.with_resource(prefect_server())

    from flows.command_line.asked_job import asked_job
    from flows.command_line.interrupts import interrupts_explained
    from flows.command_line.terminal import TerminalWatcher, WarningWatcher, console
    from quant_core.errors import TargetError
    from quant_core.execution.progress import watched_by
    from quant_core.manifest import Manifest

    screen = console()
    watcher = WarningWatcher() if as_json else TerminalWatcher(screen, config.target)
    missed = ""
    with interrupts_explained(), watcher.shown(), watched_by(watcher):
        job, workspace = asked_job(inputs, config)
        prepared = _check(job, workspace.cache)
        server.begin()
        call = _flow_call(inputs, config)
        try:
            with _head_start(job, workspace, inputs, prepared):
                _compile_page()
                with server.serving():
                    manifest = Manifest.model_validate(call())
        except TargetError as error:
            missed, manifest = str(error), cast("Outcome", error.outcome).manifest
    return _show(screen, manifest, inputs["out"], missed, as_json)


def _show(screen: Console, manifest: Manifest, folder: str, missed: str, as_json: bool) -> int:
    """Print what came of a run, and by how much it `missed` its target, if it did; the exit code."""
    from flows.command_line.outcome_tables import print_outcome
    from quant_core.report.sentences.verdict import is_met
    from quant_core.results.manifest_file import manifest_json

    if as_json:
        click.echo(manifest_json(manifest))
    else:
        print_outcome(screen, manifest, folder)
    if missed:
        which = "nearest" if manifest.narrowed.layers or manifest.narrowed.lifted or manifest.float_tensors else "wide"
        click.echo(f"narrowcast: {missed}; the {which} model is in {folder}", err=True)
    return 0 if is_met(manifest) else 3


_MOST_PREPARED = 64 << 20
"""Bytes of a model that is prepared to see whether the run would be refused."""


def _check(job: QuantizationJob[Any], cache: Path) -> Prepared | None:
    """Raise InputError for what the first steps would refuse; of a large model, for what shows unprepared.

    Returns the layers of any other model, for the run.
    """
    from quant_core.execution.machine import Machine
    from quant_core.execution.progress import Watcher, watched_by
    from quant_core.model.preparation.prepare import prepare
    from quant_core.pipeline.preflight import check_job, check_prepared
    from quant_core.storage.references import fetch

    check_job(job, cache)
    if job.model.beside or fetch(job.model, cache).stat().st_size > _MOST_PREPARED:
        return None
    began = time.perf_counter()
    with watched_by(Watcher()):  # the run itself tells of it
        layers = prepare(machine=Machine(cache), **job.preparation)
        seconds = time.perf_counter() - began
        check_prepared(layers, job, cache)
    return layers, seconds


def _head_start(
    job: QuantizationJob[Any], workspace: Workspace, inputs: dict[str, Any], prepared: Prepared | None
) -> AbstractContextManager[None]:
    """Return a block beside which the first steps are computed, unless the user has said what runs them."""
    from quant_core.execution.machine import available_cores
    from tasks.head_start import head_start

    if inputs.get("runner") not in (None, "thread"):
        return nullcontext()
    return head_start(job, workspace, inputs["workers"] or available_cores(), prepared)


def _compile_page() -> None:
    """Compile the templates of the report, in time that has to be waited anyway."""
    from quant_core.report.page import PAGE_TEMPLATES
    from quant_core.report.rendering import compile_template

    for template in PAGE_TEMPLATES:
        compile_template(template)


def _flow_call(inputs: dict[str, Any], config: RunConfig) -> Callable[[], dict[str, Any]]:
    """Return the call of the flow that the configuration is of, with its parameters.

    What takes long to import or read comes here, while the server starts.
    """
    # The engines and encoders that every run needs.
    import anyio._backends._asyncio  # noqa: F401
    import fastapi.encoders  # noqa: F401
    import prefect.flow_engine
    import prefect.task_engine
    import prefect.utilities.visualization  # noqa: F401

    from quant_core.config import LayerWiseConfig
    from quant_core.pipeline.stages import STAGES
    from tasks.cache.code_digests import kept_code_digest

    for stage in STAGES.values():
        kept_code_digest(stage.function.__module__)  # which all keys have in them
    names = ["model", "calibration", "evaluation", "holdout", "workers", "workspace"]
    given = {name: inputs[name] for name in names} | {"config": config, "output": inputs["out"]}
    # One of the two: Prefect makes a form of its parameters as it is imported.
    if isinstance(config, LayerWiseConfig):
        from flows.layer_wise import layer_wise

        return partial(layer_wise, **given, tensors=inputs["tensors"])
    from flows.auto_mixed_precision import auto_mixed_precision

    return partial(auto_mixed_precision, **given, runner=inputs["runner"], runner_address=inputs["runner_address"])
