"""`narrowcast init`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from flows.command_line.table_command import TableCommand

if TYPE_CHECKING:
    from quant_core.options import Option

__all__ = ["init"]


def _table() -> Sequence[Option]:
    from flows.options.catalogue import rows

    return rows("model", "calibration", "evaluation", "holdout", "out")


@click.command(cls=TableCommand, table=_table)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of such files instead; it needs no MODEL.")
def init(model: str | None, schema: bool, **places: str | None) -> None:
    """Print a file of options for MODEL with every option in it, explained and at its default.

    What is given here is filled in. The output folder is otherwise `quantized`; places of data are left to fill in.

    \b
    narrowcast init model.onnx --calibration calib.npz --evaluation eval.npz > quant.yaml
    narrowcast auto --config quant.yaml
    narrowcast init --schema > narrowcast.schema.json
    """
    from flows.options.template import option_schema, option_template

    if schema:
        click.echo(json.dumps(option_schema(), indent=2))
    elif model is None:
        raise click.UsageError("missing MODEL; see narrowcast init --help")
    else:
        click.echo(option_template(model, {name: place for name, place in places.items() if place}), nl=False)
