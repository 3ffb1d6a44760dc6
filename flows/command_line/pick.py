"""`narrowcast pick`."""

from __future__ import annotations

import sys

import click

from flows.options.run_options import LIMITS

__all__ = ["pick"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--max-top1-drop", type=float, metavar="X", help="Largest loss of top-1; 0.01 is a point.")
@click.option("--max-l2", type=float, metavar="X", help="Largest mean L2 distance to the float outputs.")
@click.option("--min-sqnr", type=float, metavar="DB", help="Smallest signal-to-noise ratio, in dB.")
@click.option("--max-kl", type=float, metavar="X", help="Largest mean KL divergence of the classes.")
@click.option("--max-metric-drop", type=float, metavar="X", help="Largest loss of the run's own --metric.")
@click.option("--max-bops", metavar="SHARE", help="Budget: the best model within this share of the wide one's.")
@click.option("--max-bytes", metavar="BYTES", help="Budget: as much of its weights (0.6), or an amount (300kB).")
@click.option("--max-latency", metavar="TIME", help="Budget: as much of its latency (0.6), or a time (2.5ms).")
@click.option("--metric", metavar="NAME", help="What is best within a budget.  [default: as in the run]")
@click.option("--out", metavar="DIR2", type=click.Path(), help="Folder that receives the model.  [default: DIR/picked]")
@click.option(
    "--workspace",
    metavar="URL",
    type=click.Path(),
    help="Folder where the run kept its steps.  [default: the user's cache folder]",
)
def pick(
    folder: str,
    metric: str | None,
    out: str | None,
    workspace: str | None,
    max_bops: str | None,
    max_bytes: str | None,
    max_latency: str | None,
    **limits: float | None,
) -> None:
    """Write the cheapest model that meets a target, or the best one within a budget.

    Of those that a run with --frontier has measured in DIR.

    \b
    narrowcast pick quantized --max-top1-drop 0.003
    narrowcast pick quantized --max-bops 0.4

    Nothing is searched or measured again. Exit code 3: no plan on the frontier meets the target or the budget.
    """
    chosen = [(LIMITS[name], value) for name, value in limits.items() if value is not None]
    asked = {"max_bops": max_bops, "max_bytes": max_bytes, "max_latency": max_latency}
    budget = {name: value for name, value in asked.items() if value is not None}
    if len(chosen) > 1 or not (chosen or budget):
        flags = ", ".join("--" + name.replace("_", "-") for name in (*LIMITS, *asked))
        raise click.UsageError(f"give one target or budget, or one of each: {flags}")
    if metric is not None and chosen:
        raise click.UsageError("--metric says what is best within a budget alone; a target names its own")
    from quant_core.errors import TargetError
    from quant_core.execution.machine import Machine, available_cores
    from quant_core.pipeline.pick import pick as picked
    from quant_core.results.outcome import open_outcome
    from quant_core.results.output_place import OutputPlace
    from tasks.cache.workspace import Workspace

    place = Workspace.at(workspace)
    place.check()
    named, limit = chosen[0] if chosen else (metric, None)
    output = out or f"{folder.rstrip('/')}/picked"
    OutputPlace.at(output).check()
    try:
        found = picked(open_outcome(folder), named, limit, output, Machine(place.cache, available_cores()), budget)
    except TargetError as error:
        click.echo(f"narrowcast: {error}", err=True)
        sys.exit(3)
    click.echo(str(found))
