"""`narrowcast compare`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from flows.command_line.inputs_said import inputs_said, inputs_table
from flows.command_line.table_command import TableCommand

if TYPE_CHECKING:
    from quant_core.results.comparison import Comparison

__all__ = ["compare"]


@click.command(cls=TableCommand, table=inputs_table, own_first=True)
@click.argument("first", metavar="DIR1|FILE1", type=click.Path())
@click.argument("second", metavar="DIR2|FILE2", type=click.Path())
@click.option("--float", "float_model", metavar="FLOAT", type=click.Path(), help="Of model files: their float model.")
@click.option("--evaluation", metavar="DATA", type=click.Path(), help="Of model files: data that they are run on.")
@click.option("--runtime", metavar="NAME", help="Of model files: where they will run.  [default: onnxruntime]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--markdown", is_flag=True, help="Print Markdown instead of tables, for a pull request.")
@click.option("--out", metavar="FILE", type=click.Path(), help="Write a page with the charts of both instead.")
def compare(
    first: str,
    second: str,
    float_model: str | None,
    evaluation: str | None,
    runtime: str | None,
    as_json: bool,
    markdown: bool,
    out: str | None,
    **said: Any,
) -> None:
    """Show two finished runs side by side, or two quantized .onnx files of any tool.

    Of runs: target, cost, scores, settings, and the layers they narrow differently. Of files: scores in the runtime,
    bytes, times, layers of different precision, errors of tensors inside, and the samples they answer most differently.
    Of a run beside a file its model is taken; float model, data and runtime are then known.

    \b
    narrowcast compare quantized quantized-stricter
    narrowcast compare quantized quantized-stricter --out comparison.html
    narrowcast compare quantized/model.onnx other.onnx --float model.onnx \\
        --evaluation eval.npz
    """
    import json
    from dataclasses import asdict
    from pathlib import Path

    from quant_core.results.comparison_page import comparison_markdown, comparison_page
    from quant_core.storage.references import atomic_write

    if as_json + markdown + (out is not None) > 1:
        raise click.UsageError("give one of --json, --markdown and --out")
    given = {"float": float_model, "evaluation": evaluation, "runtime": runtime, **said}
    are_files = first.endswith(".onnx") or second.endswith(".onnx")
    found, charts = _files(first, second, given) if are_files else _runs(first, second, given)
    if out is not None:
        atomic_write(Path(out), comparison_page(found, charts).encode())
        click.echo(out)
    elif markdown:
        click.echo(comparison_markdown(found), nl=False)
    elif as_json:
        click.echo(json.dumps(asdict(found), indent=2, ensure_ascii=False))
    else:
        from flows.command_line.comparison_tables import print_comparison
        from flows.command_line.terminal import console

        print_comparison(console(), found)


def _runs(first: str, second: str, given: Mapping[str, Any]) -> tuple[Comparison, Mapping[str, Any]]:
    from quant_core.results.comparison import compare as compared
    from quant_core.results.comparison_page import run_charts
    from quant_core.results.outcome import open_outcome

    if unused := [option for option, value in given.items() if value is not None]:
        flags = {option.name: option.flag for option in inputs_table()}
        raise click.UsageError(
            f"{flags.get(unused[0], f'--{unused[0]}')} is for two .onnx files; finished runs bring their own"
        )
    runs = open_outcome(first), open_outcome(second)
    return compared(*runs), run_charts(*runs)


def _files(first: str, second: str, given: Mapping[str, Any]) -> tuple[Comparison, Mapping[str, Any]]:
    """Compare two model files; for a run's folder its model is taken, and what is not given as the run had it."""
    from quant_core.pipeline.file_comparison.compare_files import compare_files
    from quant_core.results.comparison_page import file_charts

    known = {name: value for place in (first, second) for name, value in _of_run(place).items()}
    known |= {name: value for name, value in given.items() if value is not None}
    float_model, evaluation, runtime = (known.pop(name, None) for name in ("float", "evaluation", "runtime"))
    if float_model is None or evaluation is None:
        raise click.UsageError("two .onnx files are compared with --float and --evaluation")
    one, other = (place if place.endswith(".onnx") else f"{place.rstrip('/')}/model.onnx" for place in (first, second))
    found, errors = compare_files(one, other, float_model, evaluation, runtime or "onnxruntime", inputs_said(known))
    return found, file_charts(errors)


def _of_run(place: str) -> dict[str, Any]:
    """Return what a run's folder says of its float model, data, runtime and inputs; nothing for a model file."""
    from quant_core.results.outcome import open_outcome

    if place.endswith(".onnx"):
        return {}
    manifest = open_outcome(place).manifest
    found = {option.name: manifest.config.get(option.name) for option in inputs_table()}
    return found | {
        "float": manifest.sources.model,
        "evaluation": manifest.sources.evaluation,
        "runtime": manifest.config.get("runtime"),
    }
