"""`narrowcast pick`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from flows.command_line.table_command import TableCommand

if TYPE_CHECKING:
    from quant_core.options import Option

__all__ = ["pick"]


def _table() -> Sequence[Option]:
    from flows.options.catalogue import rows
    from quant_core.budget import BUDGETS
    from quant_core.options import LIMITS

    return rows(*LIMITS, *BUDGETS, "workspace")


@click.command(cls=TableCommand, table=_table)
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--metric", metavar="NAME", help="What is best within a budget.  [default: as in the run]")
@click.option("--plan", metavar="DIGEST", help="Just this plan, by how its digest begins; frontier.arrow has all.")
@click.option("--out", metavar="DIR2", type=click.Path(), help="Folder that receives the model.  [default: DIR/picked]")
def pick(
    folder: str, metric: str | None, plan: str | None, out: str | None, workspace: str | None, **given: Any
) -> None:
    """Write the cheapest model that meets a target, or the best one within a budget.

    Of those that a run with --frontier has measured in DIR.

    \b
    narrowcast pick quantized --max-top1-drop 0.003
    narrowcast pick quantized --max-bops 0.4

    Nothing is searched or measured again. Exit code 3: no plan on the frontier meets the target or the budget.
    """
    from quant_core.budget import BUDGETS
    from quant_core.errors import TargetError
    from quant_core.execution.machine import Machine, available_cores
    from quant_core.options import LIMITS
    from quant_core.pipeline.picking.pick import pick as picked
    from quant_core.results.outcome import open_outcome
    from quant_core.results.output_place import OutputPlace
    from tasks.cache.workspace import Workspace

    chosen = [(LIMITS[name], given[name]) for name in LIMITS if given[name] is not None]
    budget = {name: given[name] for name in BUDGETS if given[name] is not None}
    if len(chosen) > 1 or not (chosen or budget or plan):
        flags = ", ".join("--" + name.replace("_", "-") for name in (*LIMITS, *BUDGETS))
        raise click.UsageError(f"give one target, or budgets, or both: {flags}; or a --plan")
    if metric is not None and (chosen or not budget):
        raise click.UsageError("--metric says what is best within a budget alone; a target names its own")
    place = Workspace.at(workspace)
    place.check()
    named, limit = chosen[0] if chosen else (metric, None)
    output = out or f"{folder.rstrip('/')}/picked"
    OutputPlace.at(output).check()
    try:
        machine = Machine(place.cache, available_cores())
        found = picked(open_outcome(folder), named, limit, output, machine, budget, plan)
    except TargetError as error:
        click.echo(f"narrowcast: {error}", err=True)
        sys.exit(3)
    click.echo(str(found))
