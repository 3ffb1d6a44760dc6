"""`narrowcast analyse`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from flows.command_line.table_command import GroupedCommand, check_given

if TYPE_CHECKING:
    from quant_core.options import Option

__all__ = ["analyse"]


def _table() -> Sequence[Option]:
    from flows.options.catalogue import analysis_options

    return analysis_options()


@click.command(cls=GroupedCommand, table=_table)
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the analysis, as JSON.")
def analyse(as_json: bool, **given: Any) -> None:
    """Say what narrowing each layer of MODEL costs, why, and which tensors have outliers. No target, no search.

    \b
    narrowcast analyse model.onnx --calibration calib.npz --evaluation eval.npz --out analysis

    The folder gets a page (analysis.html), the same as analysis.json, the tables, and ranking.yaml: edit it and give
    it to `narrowcast auto --ranking`.
    """
    from flows.command_line.analysis_tables import print_analysis
    from flows.command_line.terminal import TerminalWatcher, WarningWatcher, console
    from flows.options.inputs import AnalysisInputs
    from flows.options.option_file import OptionFile
    from flows.options.run_options import required_of, run_options
    from quant_core.config import AnalysisConfig
    from quant_core.execution.progress import watched_by
    from quant_core.pipeline.analyse import analyse as analysis_of
    from quant_core.pipeline.analyse import analysis_json

    chosen = {name: value for name, value in given.items() if value is not None}
    check_given("analyse", AnalysisInputs, chosen, lambda name: False)
    inputs, config = run_options(
        OptionFile(""), chosen, AnalysisConfig, tuple(AnalysisInputs.model_fields), required_of(AnalysisInputs)
    )
    screen, place = console(), inputs.pop("out")
    watcher = WarningWatcher() if as_json else TerminalWatcher(screen, config.target)
    with watcher.shown(), watched_by(watcher):
        found = analysis_of(**inputs, config=config, output=place)
    if as_json:
        click.echo(analysis_json(found), nl=False)
    else:
        print_analysis(screen, found, place)
