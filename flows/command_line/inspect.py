"""`narrowcast inspect`."""

from __future__ import annotations

import json

import click

__all__ = ["inspect"]


@click.command()
@click.argument("model")
@click.option("--set", "fix_inputs", metavar="NAME=VALUE", multiple=True, help="An input that a run would fix.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def inspect(model: str, fix_inputs: tuple[str, ...], as_json: bool) -> None:
    """List the layers of MODEL, what each costs, and what is left alone and why.

    \b
    narrowcast inspect model.onnx
    narrowcast inspect model.onnx --json | jq '.layers | sort_by(-.macs) | .[:5]'
    """
    from quant_core.pipeline.inspection import inspect_model

    found = inspect_model(model, fix_inputs=fix_inputs)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        from flows.command_line.inspection_table import print_inspection
        from flows.command_line.terminal import console

        print_inspection(console(), found)
