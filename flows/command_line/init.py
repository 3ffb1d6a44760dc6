"""`narrowcast init`."""

from __future__ import annotations

import json

import click

__all__ = ["init"]


@click.command()
@click.argument("model", required=False, type=click.Path())
@click.option("--calibration", metavar="DATA", type=click.Path(), help="Fill this in: data ranges are chosen from.")
@click.option("--evaluation", metavar="DATA", type=click.Path(), help="Fill this in: data that plans are accepted on.")
@click.option("--holdout", metavar="DATA", type=click.Path(), help="Fill this in: data the search never sees.")
@click.option("--out", metavar="DIR", type=click.Path(), help="Fill this in: the output folder.  [default: quantized]")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of such files instead; it needs no MODEL.")
def init(model: str | None, schema: bool, **places: str | None) -> None:
    """Print a file of options for MODEL with every option in it, explained and at its default.

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
