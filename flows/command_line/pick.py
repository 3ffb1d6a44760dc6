"""`narrowcast pick`."""

from __future__ import annotations

import sys

import click

from flows.command_line.options import LIMITS

__all__ = ["pick"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--max-top1-drop", type=float, metavar="X", help="Largest loss of top-1; 0.01 is a point.")
@click.option("--max-l2", type=float, metavar="X", help="Largest mean L2 distance to the float outputs.")
@click.option("--min-sqnr", type=float, metavar="DB", help="Smallest signal-to-noise ratio, in dB.")
@click.option("--max-kl", type=float, metavar="X", help="Largest mean KL divergence of the classes.")
@click.option("--max-metric-drop", type=float, metavar="X", help="Largest loss of the run's own --metric.")
@click.option("--out", metavar="DIR2", type=click.Path(), help="Folder that receives the model.  [default: DIR/picked]")
@click.option(
    "--workspace",
    metavar="URL",
    type=click.Path(),
    help="Folder where the run kept its steps.  [default: the user's cache folder]",
)
def pick(folder: str, out: str | None, workspace: str | None, **limits: float | None) -> None:
    """Write the cheapest model that meets a target, from what a run with --frontier has measured in DIR.

    \b
    narrowcast pick quantized --max-top1-drop 0.003

    Nothing is searched or measured again. Exit code 3: no plan on the frontier meets the target.
    """
    chosen = [(LIMITS[name], value) for name, value in limits.items() if value is not None]
    if len(chosen) != 1:
        flags = ", ".join("--" + name.replace("_", "-") for name in LIMITS)
        raise click.UsageError(f"give one target: {flags}")
    from quant_core.errors import TargetError
    from quant_core.execution.machine import Machine, available_cores
    from quant_core.pick import pick as picked
    from quant_core.results.outcome import open_outcome
    from quant_core.results.output_place import OutputPlace
    from tasks.workspace import Workspace

    place = Workspace.at(workspace)
    place.check()
    ((metric, limit),) = chosen
    output = OutputPlace.at(out or f"{folder.rstrip('/')}/picked")
    try:
        found = picked(open_outcome(folder), metric, limit, output.folder, Machine(place.cache, available_cores()))
        output.publish()
    except TargetError as error:
        click.echo(f"narrowcast: {error}", err=True)
        sys.exit(3)
    click.echo(str(found))
