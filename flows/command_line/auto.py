"""`narrowcast auto`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from flows.command_line.completion import choices_of
from flows.command_line.grouped_help import GroupedCommand
from flows.command_line.run import quantize
from flows.options.run_options import REQUIRED, options_from_file, run_options

if TYPE_CHECKING:
    from quant_core.config import MixedPrecisionConfig

__all__ = ["auto"]


@click.command(cls=GroupedCommand)
@click.argument("model", required=False, type=click.Path())
@click.option(
    "--calibration",
    metavar="DATA",
    type=click.Path(),
    help="Data ranges are chosen from (.npz, .arrow, .parquet, folder).",
)
@click.option("--evaluation", metavar="DATA", type=click.Path(), help="Data that plans are accepted on.")
@click.option("--holdout", metavar="DATA", type=click.Path(), help="Data that only the finished model is measured on.")
@click.option(
    "--out", metavar="DIR", type=click.Path(), help="Folder that receives model, manifest, tables and report."
)
@click.option("--max-top1-drop", type=float, metavar="X", help="Target: largest loss of top-1; 0.01 is a point.")
@click.option("--max-l2", type=float, metavar="X", help="Target: largest mean L2 distance to the float outputs.")
@click.option("--min-sqnr", type=float, metavar="DB", help="Target: smallest signal-to-noise ratio, in dB.")
@click.option("--max-kl", type=float, metavar="X", help="Target: largest mean KL divergence of the classes.")
@click.option("--max-metric-drop", type=float, metavar="X", help="Target: largest loss of your own --metric.")
@click.option(
    "--max-bops",
    metavar="SHARE",
    help="Budget: the best score within this share (0.4) of the wide model's bit operations.",
)
@click.option("--max-bytes", metavar="BYTES", help="Budget: as much of its weights (0.6), or an amount (300kB).")
@click.option("--max-latency", metavar="TIME", help="Budget: as much of its latency (0.6), or a time (2.5ms).")
@click.option(
    "--metric",
    metavar="PKG.MOD:FN",
    help="Your metric: fn(outputs, labels), higher is better; with a budget alone, what is best: l2, kl, sqnr_db, "
    "top1_drop or yours.  [default: l2]",
)
@click.option("--confidence", type=float, metavar="P", help="Accept a plan only if so sure (0.95) of the target.")
@click.option("--wide", metavar="PRECISION", help="Precision all layers begin in.  [default: a16w8]")
@click.option(
    "--narrow",
    metavar="PRECISIONS",
    help="Precisions to narrow to, by commas.  [default: a8w8; with --wide float32 au8w8]",
)
@click.option("--candidates", metavar="layers|all", help="What may be narrowed: layers, or Add, pools, ... too.")
@click.option("--exclude", metavar="NODES", help="Nodes that stay in float, by name or pattern, by commas.")
@click.option("--keep-wide", metavar="LAYERS", help="Layers that stay wide, by name or pattern, by commas.")
@click.option("--most-layers", type=click.IntRange(min=1), metavar="N", help="Narrow so many layers at most.")
@click.option(
    "--calibrate",
    metavar="METHOD",
    shell_complete=choices_of("calibrate"),
    help="percentile, minmax, entropy, mse, pow2-nonoverflow or pow2-minmse.  [default: percentile]",
)
@click.option(
    "--search",
    metavar="STRATEGY",
    shell_complete=choices_of("search"),
    help="go-on, bisect, linear or knapsack.  [default: go-on]",
)
@click.option("--evaluations", type=int, metavar="N", help="Plans to try beyond the cut, at most.  [default: 8]")
@click.option("--frontier", is_flag=True, default=None, help="Measure the whole curve; see `narrowcast pick`.")
@click.option("--rank", metavar="LOSS", shell_complete=choices_of("rank"), help="mse, kl or l2-float.  [default: mse]")
@click.option(
    "--cost",
    metavar="COST",
    shell_complete=choices_of("cost"),
    help="What to save: bops, bytes, activation-bytes or latency.  [default: bops]",
)
@click.option("--device-costs", metavar="CSV", type=click.Path(), help="Your device's latencies, for --cost latency.")
@click.option("--time-models", is_flag=True, default=None, help="Time float, wide and mixed model in ONNX Runtime.")
@click.option("--samples", metavar="auto|all|N", help="Evaluation samples a probe uses.  [default: auto]")
@click.option("--per-channel", is_flag=True, default=None, help="One weight scale per output channel.")
@click.option(
    "--calibrate-weights",
    metavar="METHOD",
    shell_complete=choices_of("calibrate_weights"),
    help="A weight's range: minmax or mse.  [default: minmax]",
)
@click.option(
    "--round-weights",
    metavar="METHOD",
    shell_complete=choices_of("round_weights"),
    help="nearest, or gptq: for what layers put out.  [default: gptq for 4 bits]",
)
@click.option("--equalize", is_flag=True, default=None, help="Make channels of weights alike in range first.")
@click.option("--correct-bias", is_flag=True, default=None, help="Take what rounding adds on average from biases.")
@click.option(
    "--biases",
    metavar="TYPE",
    shell_complete=choices_of("biases"),
    help="int32, as-weights or narrow-as-weights.  [default: int32]",
)
@click.option(
    "--format", metavar="FORMAT", shell_complete=choices_of("format"), help="qdq or qoperator.  [default: qdq]"
)
@click.option("--dual-pairs", is_flag=True, default=None, help="Keep the wide pair in front of every narrow one.")
@click.option("--optimize/--no-optimize", default=None, help="Fold constants and batch norms.  [default: optimize]")
@click.option(
    "--pairs",
    metavar="DOMAIN",
    shell_complete=choices_of("pairs"),
    help="standard, or com.microsoft: at the model's own opset.  [default: standard]",
)
@click.option("--providers", metavar="NAMES", help="Execution providers of calibration.  [default: the CPU's]")
@click.option("--output", metavar="NAME|INDEX|all", help="Model output that is compared.  [default: 0]")
@click.option("--batch-size", type=int, metavar="N", help="Samples a forward pass takes at once.")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Threads or processes at once.  [default: all cores]"
)
@click.option(
    "--runner",
    metavar="RUNNER",
    help="What shares the work: thread, process, dask, ray or pool.  [default: thread]",
)
@click.option("--runner-address", metavar="ADDRESS", help="The Dask or Ray cluster, or a pool's deployment.")
@click.option(
    "--workspace",
    metavar="URL",
    type=click.Path(),
    help="Folder where step results are kept.  [default: the user's cache folder]",
)
@click.option("--config", metavar="FILE.yaml", type=click.Path(), help="Options from a file; those given here win.")
@click.option("--dry-run", is_flag=True, help="Print what there is to do, and about how long it takes; do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the manifest, as JSON.")
def auto(as_json: bool, dry_run: bool, config: str | None, **given: Any) -> None:
    """Quantize MODEL to the narrowest mix of precisions that meets a target, or to the best within a budget.

    \b
    narrowcast auto model.onnx --calibration calib.npz --evaluation eval.npz \\
        --holdout test.npz --max-top1-drop 0.005 --out quantized

    Runs are remembered step by step: the same command again, after a crash or with another target, goes on
    from what is there. Exit code 0: target met, 1: a bug or an outage, 2: bad input, 3: target or budget missed.

    With a budget (--max-bops, --max-bytes, --max-latency) the best score within it is looked for; a target beside
    it decides whether that is good enough.
    """
    from flows.temporary_server import prefect_server

    if dry_run:
        from flows.command_line.dry_run import print_dry_run

        print_dry_run(*_asked(config, given), as_json)
        return
    # Prefect takes its seconds to start, while what is asked for is looked at.
    with prefect_server() as serving:
        sys.exit(quantize(*_asked(config, given), as_json, serving))


def _asked(config: str | None, given: dict[str, Any]) -> tuple[dict[str, Any], MixedPrecisionConfig]:
    """What the options and the options file say."""
    from quant_core.config import MixedPrecisionConfig

    file = options_from_file(config, MixedPrecisionConfig)
    chosen = {name: value for name, value in given.items() if value is not None}
    missing = [name for name in REQUIRED if not chosen.get(name) and not file.has(name)]
    if missing:
        spelled = ["MODEL" if name == "model" else f"--{name}" for name in missing]
        raise click.UsageError(f"missing {', '.join(spelled)}; see narrowcast auto --help")
    return run_options(file, chosen, MixedPrecisionConfig)
