"""`narrowcast check`."""

from __future__ import annotations

import sys
from typing import Any

import click

from flows.command_line.inputs_said import inputs_said, inputs_table
from flows.command_line.table_command import TableCommand

__all__ = ["check"]


@click.command(cls=TableCommand, table=inputs_table, own_first=True)
@click.argument("model", type=click.Path())
@click.option("--runtime", default="onnxruntime", show_default=True, help="Where it will run.")
@click.option("--evaluation", metavar="DATA", required=True, type=click.Path(), help="Data that it is run on.")
@click.option("--float", "float_model", metavar="FLOAT", type=click.Path(), help="The float model, to score against.")
@click.option("--evaluator", metavar="PKG.MOD:FN", help="Your own evaluator, as for narrowcast auto.")
@click.option("--evaluate-command", metavar="CMD", help="Your own command that evaluates a file, likewise.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def check(
    model: str,
    runtime: str,
    evaluation: str,
    float_model: str | None,
    evaluator: str | None,
    evaluate_command: str | None,
    as_json: bool,
    **said: Any,
) -> None:
    """Say what the layers of a quantized MODEL run as in a runtime, and what that does to its outputs.

    \b
    narrowcast check quantized.onnx --evaluation eval.npz --float model.onnx

    Exit code 3: it does not run there, or scores otherwise than its Q/DQ pairs say, by more than the samples leave
    open. Without --float: its outputs are off by more than 1%.
    """
    import json
    from dataclasses import asdict

    from quant_core.config import LayerWiseConfig, validated
    from quant_core.pipeline.check import check_file
    from quant_core.scoring.evaluator import Evaluator

    given = validated(LayerWiseConfig, {"evaluator": evaluator, "evaluate_command": evaluate_command})
    found = check_file(model, runtime, evaluation, float_model, Evaluator.of(given), inputs_said(said))
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
    else:
        from flows.command_line.check_tables import print_check
        from flows.command_line.terminal import console

        print_check(console(), found)
    sys.exit(3 if found.differs else 0)
