"""The command line. Heavy imports wait until a command runs, so that help comes at once."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from quant_core.config import MixedPrecisionConfig

__all__ = ["main"]

_LIMITS = {
    "max_top1_drop": "top1_drop",
    "max_l2": "l2",
    "min_sqnr": "sqnr_db",
    "max_kl": "kl",
    "max_metric_drop": "metric_drop",
}
_INPUTS = ("model", "calibration", "evaluation", "holdout", "out", "workers", "workspace")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="narrowcast", prog_name="narrowcast")
def narrowcast() -> None:
    """Find the narrowest mix of precisions at which an ONNX model still meets a target."""


@narrowcast.command()
@click.argument("model", required=False)
@click.option("--calibration", metavar="DATA", help="Data that ranges are chosen from (.npz, .arrow, .parquet, folder).")
@click.option("--evaluation", metavar="DATA", help="Data that plans are accepted on.")
@click.option("--holdout", metavar="DATA", help="Data that only the finished model is measured on.")
@click.option("--out", metavar="DIR", help="Folder that receives model, manifest, tables and report.")
@click.option("--max-top1-drop", type=float, metavar="X", help="Target: largest loss of top-1 accuracy, 0.01 is a point.")
@click.option("--max-l2", type=float, metavar="X", help="Target: largest mean L2 distance to the float outputs.")
@click.option("--min-sqnr", type=float, metavar="DB", help="Target: smallest signal-to-noise ratio of the outputs, in dB.")
@click.option("--max-kl", type=float, metavar="X", help="Target: largest mean KL divergence of the class probabilities.")
@click.option("--max-metric-drop", type=float, metavar="X", help="Target: largest loss of your own --metric.")
@click.option("--metric", metavar="PKG.MOD:FN", help="Your metric: fn(outputs, labels), higher is better.")
@click.option("--wide", metavar="PRECISION", help="Precision all layers begin in.  [default: a16w8]")
@click.option("--narrow", metavar="PRECISIONS", help="Precisions to narrow to, by commas.  [default: a8w8]")
@click.option("--calibrate", metavar="METHOD", help="percentile or minmax.  [default: percentile]")
@click.option("--search", metavar="STRATEGY", help="bisect or linear.  [default: bisect]")
@click.option("--rank", metavar="LOSS", help="mse or kl.  [default: mse]")
@click.option("--samples", metavar="auto|all|N", help="Evaluation samples a probe uses.  [default: auto]")
@click.option("--per-channel", is_flag=True, default=None, help="One weight scale per output channel.")
@click.option("--output", metavar="NAME|INDEX|all", help="Model output that is compared.  [default: 0]")
@click.option("--batch-size", type=int, metavar="N", help="Samples a forward pass takes at once.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Threads that compute at once.  [default: all cores]")
@click.option("--workspace", metavar="DIR", help="Where step results are kept.  [default: the user's cache folder]")
@click.option("--config", metavar="FILE.yaml", help="Options from a file; those given here win.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the manifest, as JSON.")
def auto(as_json: bool, config: str | None, **given: Any) -> None:
    """Quantize MODEL to the narrowest mix of precisions that meets a target.

    \b
    narrowcast auto model.onnx --calibration calib.npz --evaluation eval.npz \\
        --holdout test.npz --max-top1-drop 0.005 --out quantized

    Runs are remembered step by step: the same command again, after a crash or with another target, goes on
    from what is there. Exit code 0: target met, 1: a bug or an outage, 2: bad input, 3: target missed.
    """
    options = _from_file(config) | {name: value for name, value in given.items() if value is not None}
    inputs = {name: options.pop(name, None) for name in _INPUTS}
    missing = [name for name in ("model", "calibration", "evaluation", "out") if not inputs[name]]
    if missing:
        spelled = ["MODEL" if name == "model" else f"--{name}" for name in missing]
        raise click.UsageError(f"missing {', '.join(spelled)}; see narrowcast auto --help")
    sys.exit(_quantize(inputs, _configuration(options), as_json))


@narrowcast.command()
@click.option("--out", metavar="DIR", default="narrowcast-demo", show_default=True, help="Folder for data and result.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Threads that compute at once.")
@click.option("--workspace", metavar="DIR", help="Where step results are kept.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the manifest, as JSON.")
def demo(out: str, workers: int | None, workspace: str | None, as_json: bool) -> None:
    """Run `auto` on the built-in example: handwritten digits and a small CNN."""
    from flows.demo import DEMO_OPTIONS, write_example

    paths = write_example(Path(out))
    if not as_json:
        flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in (paths | DEMO_OPTIONS).items() if name != "model")
        click.echo(f"narrowcast auto {paths['model']} {flags} --out {out}\n")
    inputs = dict.fromkeys(_INPUTS) | paths | {"out": out, "workers": workers, "workspace": workspace}
    sys.exit(_quantize(inputs, _configuration(dict(DEMO_OPTIONS)), as_json))


@narrowcast.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def inspect(model: str, as_json: bool) -> None:
    """List the layers of MODEL, what each costs, and what is left alone and why."""
    from quant_core.inspection import inspect_model

    found = inspect_model(model)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        from flows.terminal import console, print_inspection

        print_inspection(console(), found)


def _from_file(path: str | None) -> dict[str, Any]:
    """Options from a YAML file, by their long names with underscores."""
    if path is None:
        return {}
    import yaml

    from quant_core.errors import InputError

    try:
        content = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected options like `narrow: a8w8`, one a line")
    return {str(name).replace("-", "_"): value for name, value in content.items()}


def _configuration(options: dict[str, Any]) -> MixedPrecisionConfig:
    """The run's configuration from flat options."""
    from quant_core.config import config_from
    from quant_core.errors import InputError

    chosen = [flag for flag in _LIMITS if options.get(flag) is not None]
    if len(chosen) != 1 and "target" not in options:
        flags = ", ".join("--" + flag.replace("_", "-") for flag in _LIMITS)
        raise InputError(f"give one target: {flags}" + (f" (not {len(chosen)} of them)" if chosen else ""))
    limits = {flag: options.pop(flag, None) for flag in _LIMITS}
    function = options.pop("metric", None)
    if chosen:
        options["target"] = {"metric": _LIMITS[chosen[0]], "limit": limits[chosen[0]], "function": function}
    if isinstance(options.get("narrow"), str):
        options["narrow"] = [part.strip() for part in options["narrow"].split(",")]
    if str(options.get("samples", "")).isdecimal():
        options["samples"] = int(options["samples"])
    return config_from(**options)


def _quantize(inputs: dict[str, Any], config: MixedPrecisionConfig, as_json: bool) -> int:
    """Run the flow and show what comes of it; the exit code."""
    from contextlib import nullcontext

    from flows.terminal import TerminalWatcher, console, print_outcome
    from quant_core.errors import TargetError
    from quant_core.progress import Watcher, watched_by

    screen = console(quiet=as_json)
    watcher = Watcher() if as_json else TerminalWatcher(screen, config.target)
    missed = None
    with watcher.shown() if isinstance(watcher, TerminalWatcher) else nullcontext(), watched_by(watcher):
        try:
            manifest = _run_flow(inputs, config)
        except TargetError as error:
            missed, manifest = error, dict(error.outcome.manifest)
    if as_json:
        click.echo(json.dumps(manifest, indent=2))
    else:
        print_outcome(screen, manifest, inputs["out"])
    if missed:
        click.echo(f"narrowcast: {missed}", err=True)
    return 0 if manifest["target"]["met"] else 3


def _run_flow(inputs: dict[str, Any], config: MixedPrecisionConfig) -> dict[str, Any]:
    from flows.auto_mixed_precision import auto_mixed_precision

    return auto_mixed_precision(
        model=inputs["model"],
        calibration=inputs["calibration"],
        evaluation=inputs["evaluation"],
        holdout=inputs["holdout"],
        config=config,
        output=inputs["out"],
        workers=inputs["workers"],
        workspace=inputs["workspace"],
    )


def main() -> None:
    """Entry point: turn errors of the user's making into one line and an exit code."""
    # Set before Prefect is imported; what the user has set stands.
    for name, value in _PREFECT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        narrowcast.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except (click.Abort, KeyboardInterrupt):
        _fail("stopped; run the same command again to go on from here", 130)
    except Exception as error:
        from quant_core.errors import NarrowcastError

        if not isinstance(error, NarrowcastError):
            raise
        _fail(str(error), 2)


def _fail(message: str, code: int) -> None:
    click.echo(f"narrowcast: {message}", err=True)
    sys.exit(code)


_PREFECT_DEFAULTS = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # a task's failure comes back as an exception, said once
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


if __name__ == "__main__":
    main()
