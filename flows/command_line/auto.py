"""`narrowcast auto`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from flows.command_line.run import quantize
from flows.command_line.table_command import GroupedCommand, check_given

if TYPE_CHECKING:
    from quant_core.config import MixedPrecisionConfig
    from quant_core.options import Option

__all__ = ["auto", "inputs_and_config"]


def _table() -> Sequence[Option]:
    from flows.options.catalogue import auto_options

    return auto_options()


@click.command(cls=GroupedCommand, table=_table)
@click.option("--config", metavar="FILE.yaml", type=click.Path(), help="Options from a file; those given here win.")
@click.option("--ranking", metavar="FILE.yaml", type=click.Path(), help="The edited ranking of an analysis.")
@click.option("--dry-run", is_flag=True, help="Print what there is to do, and about how long it takes; do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the manifest, as JSON.")
def auto(as_json: bool, dry_run: bool, config: str | None, ranking: str | None, **given: Any) -> None:
    """Quantize MODEL to the narrowest mix of precisions that meets a target, or to the best within a budget.

    \b
    narrowcast auto model.onnx --calibration calib.npz --evaluation eval.npz \\
        --holdout test.npz --max-top1-drop 0.005 --out quantized

    Runs are remembered step by step: the same command again, after a crash or with another target, goes on
    from what is there. Exit code 0: target met, 1: a bug or an outage, 2: bad input, 3: target or budget missed.

    With a budget (--max-bops, --max-bytes, --max-latency) the best score within it is looked for; a target beside
    it decides whether that is good enough.
    """
    if dry_run:
        from flows.command_line.dry_run import print_dry_run

        print_dry_run(*inputs_and_config(config, given, ranking), as_json)
        return
    sys.exit(quantize(*inputs_and_config(config, given, ranking), as_json))


def inputs_and_config(
    config: str | None, given: dict[str, Any], ranking: str | None = None
) -> tuple[dict[str, Any], MixedPrecisionConfig]:
    """Return the inputs and the configuration that the flags, a ranking file and the options file give."""
    from flows.options.inputs import AutoInputs
    from flows.options.run_options import options_from_file, ranking_options, run_options
    from quant_core.config import MixedPrecisionConfig

    file = options_from_file(config, MixedPrecisionConfig)
    chosen = {name: value for name, value in given.items() if value is not None}
    chosen = (ranking_options(ranking) if ranking else {}) | chosen
    check_given("auto", AutoInputs, chosen, file.has)
    return run_options(file, chosen, MixedPrecisionConfig)
