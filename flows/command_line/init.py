"""`narrowcast init`."""

from __future__ import annotations

import json

import click

__all__ = ["init"]


@click.command()
@click.argument("model", required=False, type=click.Path())
@click.option("--schema", is_flag=True, help="Print the JSON Schema of such files instead; it needs no MODEL.")
def init(model: str | None, schema: bool) -> None:
    """Print a file of options for MODEL with every option in it, explained and at its default.

    \b
    narrowcast init model.onnx > quant.yaml      # then fill in where the data is
    narrowcast auto --config quant.yaml
    narrowcast init --schema > narrowcast.schema.json
    """
    from flows.command_line.option_template import option_schema, option_template

    if schema:
        click.echo(json.dumps(option_schema(), indent=2))
    elif model is None:
        raise click.UsageError("missing MODEL; see narrowcast init --help")
    else:
        click.echo(option_template(model), nl=False)
