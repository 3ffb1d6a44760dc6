"""`narrowcast watch`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from flows.command_line.table_command import TableCommand

if TYPE_CHECKING:
    from flows.watch.scan import ScanResult
    from quant_core.options import Option

__all__ = ["watch"]


def _table() -> Sequence[Option]:
    from flows.options.catalogue import rows

    return rows("workers", "runner", "runner_address", "workspace")


@click.command(cls=TableCommand, table=_table)
@click.argument("folder", type=click.Path())
@click.option("--out", "output", metavar="FOLDER", required=True, type=click.Path(), help="Where finished models go.")
@click.option("--model", metavar="NAME", help="Scan this model only.  [default: all]")
@click.option("--every", type=click.FloatRange(min=1), metavar="SECONDS", help="Scan again and again.  [default: once]")
@click.option(
    "--allow-metric",
    "metrics",
    metavar="PKG.MOD:FN",
    multiple=True,
    help="A function that options in FOLDER may name as their metric; others are refused.",
)
@click.option("--json", "as_json", is_flag=True, help="Print nothing but what became of each model, as JSON.")
def watch(every: float | None, as_json: bool, **given: Any) -> None:
    """Quantize every .onnx file in FOLDER that is new or changed.

    \b
    narrowcast watch models --out quantized
    narrowcast watch s3://bucket/models --out s3://bucket/quantized --workspace s3://bucket/steps --every 600

    The options of resnet20.onnx are in resnet20.yaml beside it, or else in FOLDER/narrowcast.yaml: a file as for
    `narrowcast auto --config`, without model and out; its paths are relative to it. The finished model is in
    OUT/resnet20/VERSION, and OUT/resnet20/current.json names the newest version that meets its target.

    One scan, unless --every is given; schedules are Prefect's part (deployments/README.md). Exit code 0: nothing is
    left to do, 1: a bug or an outage with one of the models, 2: bad input of one, 3: one misses its target.
    """
    from flows.command_line.interrupts import interrupts_explained
    from flows.command_line.terminal import NoteWatcher, WarningWatcher
    from flows.options.run_options import check_kinds
    from flows.temporary_server import prefect_server
    from quant_core.execution.progress import watched_by

    given["metrics"] = list(given["metrics"])
    check_kinds({name: given[name] for name in ("workers", "runner", "runner_address")})
    watcher = WarningWatcher() if as_json else NoteWatcher()
    with interrupts_explained(), watched_by(watcher), prefect_server() as server:
        server.begin()
        from flows.watch_models import check_places

        check_places(given["folder"], given["output"])  # while the server starts
        with server.serving():
            code = _scan(given, as_json)
            while every is not None:
                time.sleep(every)
                code = _scan(given, as_json)
    sys.exit(code)


def _scan(given: dict[str, Any], as_json: bool) -> int:
    """Scan once; return the exit code."""
    from flows.watch.scan import WatchError
    from flows.watch_models import watch_models
    from quant_core.errors import OutageError

    results: Sequence[ScanResult]
    try:
        code, results = 0, watch_models(**given)
    except WatchError as error:
        code, results = error.code, error.results
    except OutageError as error:  # there may be another scan
        click.echo(f"narrowcast: {error}", err=True)
        code, results = 1, ()
    if as_json:
        click.echo(json.dumps([asdict(result) for result in results], indent=2))
    return code
