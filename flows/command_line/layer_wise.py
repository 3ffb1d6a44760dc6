"""`narrowcast layer-wise`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from flows.command_line.run import quantize
from flows.options.run_options import options_from_file, run_options

if TYPE_CHECKING:
    from quant_core.config import LayerWiseConfig

__all__ = ["layer_wise"]

_INPUTS = ("model", "tensors", "calibration", "evaluation", "holdout", "out", "workers", "workspace")
_REQUIRED = ("model", "tensors", "calibration", "out")


@click.command("layer-wise")
@click.argument("model", required=False, type=click.Path())
@click.option("--tensors", metavar="FILE", type=click.Path(), help="Types with names (YAML), or a manifest.json.")
@click.option("--calibration", metavar="DATA", type=click.Path(), help="Data ranges are chosen from.")
@click.option(
    "--evaluation", metavar="DATA", type=click.Path(), help="Data the model is measured on.  [default: calibration]"
)
@click.option("--holdout", metavar="DATA", type=click.Path(), help="More data the model is measured on.")
@click.option("--out", metavar="DIR", type=click.Path(), help="Folder that receives model, manifest and report.")
@click.option("--max-top1-drop", type=float, metavar="X", help="Target: largest loss of top-1; 0.01 is a point.")
@click.option("--max-l2", type=float, metavar="X", help="Target: largest mean L2 distance to the float outputs.")
@click.option("--min-sqnr", type=float, metavar="DB", help="Target: smallest signal-to-noise ratio, in dB.")
@click.option("--max-kl", type=float, metavar="X", help="Target: largest mean KL divergence of the classes.")
@click.option("--max-metric-drop", type=float, metavar="X", help="Target: largest loss of your own --metric.")
@click.option("--metric", metavar="PKG.MOD:FN", help="Your metric: fn(outputs, labels), higher is better.")
@click.option("--wide", metavar="PRECISION", help="Precision of all that is not named.  [default: a16w8]")
@click.option("--candidates", metavar="layers|all", help="What has a precision: layers, or Add, pools, ... too.")
@click.option("--exclude", metavar="NODES", help="Nodes that stay in float, by name or pattern, by commas.")
@click.option("--calibrate", metavar="METHOD", help="How ranges are chosen.  [default: percentile]")
@click.option("--per-channel", is_flag=True, default=None, help="One weight scale per output channel.")
@click.option("--equalize", is_flag=True, default=None, help="Make channels of weights alike in range first.")
@click.option("--biases", metavar="TYPE", help="int32, as-weights or narrow-as-weights.  [default: int32]")
@click.option("--format", metavar="FORMAT", help="qdq or qoperator.  [default: qdq]")
@click.option("--dual-pairs", is_flag=True, default=None, help="Keep the wide pair in front of every narrow one.")
@click.option("--pairs", metavar="DOMAIN", help="standard, or com.microsoft: at the model's own opset.")
@click.option("--optimize/--no-optimize", default=None, help="Fold constants and batch norms.  [default: optimize]")
@click.option("--providers", metavar="NAMES", help="Execution providers of calibration.  [default: the CPU's]")
@click.option("--output", metavar="NAME|INDEX|all", help="Model output that is compared.  [default: 0]")
@click.option("--batch-size", type=int, metavar="N", help="Samples a forward pass takes at once.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Threads at once.  [default: all cores]")
@click.option("--workspace", metavar="DIR", type=click.Path(), help="Where step results are kept.")
@click.option("--config", metavar="FILE.yaml", type=click.Path(), help="Options from a file; those given here win.")
@click.option("--dry-run", is_flag=True, help="Print what there is to do, and about how long it takes; do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the manifest, as JSON.")
def layer_wise(as_json: bool, dry_run: bool, config: str | None, **given: Any) -> None:
    """Quantize MODEL with the types that a file gives to its layers and tensors.

    \b
    int8: ["/block3/*", "/head/Gemm"]       a layer: activations and weight
    a8w4: ["/block4/conv/Conv"]
    int16: ["tensor:/block2/Add_output_0"]  a tensor, whoever reads it

    \b
    narrowcast layer-wise model.onnx --tensors types.yaml --calibration calib.npz \\
        --evaluation eval.npz --out quantized

    Everything else is wide. The manifest of an earlier run is such a file too, and brings the options it was made
    with: edit its plan and give it back. Exit code 0: written, and the target met if there is one, 1: a bug or an
    outage, 2: bad input, 3: target missed.
    """
    from flows.temporary_server import prefect_server

    if dry_run:
        from flows.command_line.dry_run import print_dry_run

        print_dry_run(*_asked(config, given), as_json)
        return
    # Prefect takes its seconds to start, while what is asked for is looked at.
    with prefect_server() as serving:
        sys.exit(quantize(*_asked(config, given), as_json, serving))


def _asked(config: str | None, given: dict[str, Any]) -> tuple[dict[str, Any], LayerWiseConfig]:
    """What the options, the options file and the file of types say."""
    from quant_core.assignments.assignment_file import read_plan
    from quant_core.config import LayerWiseConfig

    file = options_from_file(config, LayerWiseConfig, _INPUTS)
    chosen = {name: value for name, value in given.items() if value is not None}
    missing = [name for name in _REQUIRED if not chosen.get(name) and not file.has(name)]
    if missing:
        spelled = ["MODEL" if name == "model" else f"--{name}" for name in missing]
        raise click.UsageError(f"missing {', '.join(spelled)}; see narrowcast layer-wise --help")
    plan = chosen.get("tensors") or file.options.get("tensors")
    settings = read_plan(plan).settings if isinstance(plan, str) else {}
    kept = {name: value for name, value in settings.items() if name not in file.options}
    return run_options(file, kept | chosen, LayerWiseConfig, _INPUTS, _REQUIRED)
