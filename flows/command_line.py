"""The command line. Heavy imports wait until a command runs, so that help comes at once."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from quant_core.config import MixedPrecisionConfig
    from quant_core.output import Outcome

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
@click.option("--calibration", metavar="DATA", help="Data ranges are chosen from (.npz, .arrow, .parquet, folder).")
@click.option("--evaluation", metavar="DATA", help="Data that plans are accepted on.")
@click.option("--holdout", metavar="DATA", help="Data that only the finished model is measured on.")
@click.option("--out", metavar="DIR", help="Folder that receives model, manifest, tables and report.")
@click.option("--max-top1-drop", type=float, metavar="X", help="Target: largest loss of top-1; 0.01 is a point.")
@click.option("--max-l2", type=float, metavar="X", help="Target: largest mean L2 distance to the float outputs.")
@click.option("--min-sqnr", type=float, metavar="DB", help="Target: smallest signal-to-noise ratio, in dB.")
@click.option("--max-kl", type=float, metavar="X", help="Target: largest mean KL divergence of the classes.")
@click.option("--max-metric-drop", type=float, metavar="X", help="Target: largest loss of your own --metric.")
@click.option("--metric", metavar="PKG.MOD:FN", help="Your metric: fn(outputs, labels), higher is better.")
@click.option("--wide", metavar="PRECISION", help="Precision all layers begin in.  [default: a16w8]")
@click.option("--narrow", metavar="PRECISIONS", help="Precisions to narrow to, by commas.  [default: a8w8]")
@click.option(
    "--calibrate",
    metavar="METHOD",
    help="percentile, minmax, entropy, mse, pow2-nonoverflow or pow2-minmse.  [default: percentile]",
)
@click.option("--search", metavar="STRATEGY", help="bisect or linear.  [default: bisect]")
@click.option("--rank", metavar="LOSS", help="mse or kl.  [default: mse]")
@click.option("--samples", metavar="auto|all|N", help="Evaluation samples a probe uses.  [default: auto]")
@click.option("--per-channel", is_flag=True, default=None, help="One weight scale per output channel.")
@click.option("--output", metavar="NAME|INDEX|all", help="Model output that is compared.  [default: 0]")
@click.option("--batch-size", type=int, metavar="N", help="Samples a forward pass takes at once.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Threads at once.  [default: all cores]")
@click.option("--workspace", metavar="DIR", help="Where step results are kept.  [default: the user's cache folder]")
@click.option("--config", metavar="FILE.yaml", help="Options from a file; those given here win.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the manifest, as JSON.")
def auto(as_json: bool, config: str | None, **given: Any) -> None:
    r"""Quantize MODEL to the narrowest mix of precisions that meets a target.

    \b
    narrowcast auto model.onnx --calibration calib.npz --evaluation eval.npz \
        --holdout test.npz --max-top1-drop 0.005 --out quantized

    Runs are remembered step by step: the same command again, after a crash or with another target, goes on
    from what is there. Exit code 0: target met, 1: a bug or an outage, 2: bad input, 3: target missed.
    """
    options = _joined(_from_file(config), {name: value for name, value in given.items() if value is not None})
    inputs = {name: options.pop(name, None) for name in _INPUTS}
    missing = [name for name in ("model", "calibration", "evaluation", "out") if not inputs[name]]
    if missing:
        spelled = ["MODEL" if name == "model" else f"--{name}" for name in missing]
        raise click.UsageError(f"missing {', '.join(spelled)}; see narrowcast auto --help")
    _check_kinds(inputs)
    sys.exit(_quantize(inputs, _configuration(options), as_json))


@narrowcast.command()
@click.option("--out", metavar="DIR", default="narrowcast-demo", show_default=True, help="Folder for data and result.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Threads that compute at once.")
@click.option("--workspace", metavar="DIR", help="Where step results are kept.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the manifest, as JSON.")
def demo(out: str, workers: int | None, workspace: str | None, as_json: bool) -> None:
    """Run `auto` on the built-in example: handwritten digits and a small CNN."""
    from flows.demo import DEMO_OPTIONS, write_example
    from quant_core.preflight import usable_folder

    paths = write_example(usable_folder(Path(out), "output folder"))
    if not as_json:
        options = {name: value for name, value in (paths | DEMO_OPTIONS | {"out": out}).items() if name != "model"}
        flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        click.echo(shlex.join(["narrowcast", "auto", paths["model"], *flags]) + "\n")
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

    from quant_core.config import MixedPrecisionConfig
    from quant_core.errors import InputError

    try:
        content = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected options like `narrow: a8w8`, one a line")
    options = {str(name).replace("-", "_"): value for name, value in content.items()}
    known = [*_INPUTS, *_LIMITS, "metric", *MixedPrecisionConfig.model_fields]
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise InputError(f"{path}: {name} is not an option; {hint}")
    return options


def _joined(file: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Options of a file with those of the command line over them. A target there replaces the whole one here."""
    if given.keys() & _LIMITS.keys():
        file = {name: value for name, value in file.items() if name not in (*_LIMITS, "target")}
        if "max_metric_drop" not in given:
            file.pop("metric", None)
    return file | given


def _check_kinds(inputs: dict[str, Any]) -> None:
    """A file may hold anything, the command line has checked its own."""
    from quant_core.errors import InputError

    for name, value in inputs.items():
        if name == "workers":
            if value is not None and (type(value) is not int or value < 1):
                raise InputError(f"workers: must be a number of threads, not {value!r}")
        elif value is not None and not isinstance(value, str):
            raise InputError(f"{name}: must be a path, not {value!r}")


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
    if (function is None) == ("max_metric_drop" in chosen) and "target" not in options:
        raise InputError("--max-metric-drop and --metric pkg.mod:fn go together")
    if isinstance(function, str) and ":" not in function:
        raise InputError(f"--metric {function}: write it as pkg.mod:fn, the module and the function in it")
    if chosen:
        options["target"] = {"metric": _LIMITS[chosen[0]], "limit": limits[chosen[0]], "function": function}
    if isinstance(options.get("narrow"), str):
        options["narrow"] = [part.strip() for part in options["narrow"].split(",")]
    if str(options.get("samples", "")).isdecimal():
        options["samples"] = int(options["samples"])
    return config_from(**options)


def _quantize(inputs: dict[str, Any], config: MixedPrecisionConfig, as_json: bool) -> int:
    """Run the flow and show what comes of it; the exit code."""
    from flows.request import request_for, workspace_folder
    from flows.temporary_server import prefect_server
    from flows.terminal import TerminalWatcher, WarningWatcher, console, print_outcome
    from quant_core.errors import TargetError
    from quant_core.output import manifest_json
    from quant_core.preflight import check_request
    from quant_core.progress import watched_by

    screen = console()
    watcher = WarningWatcher() if as_json else TerminalWatcher(screen, config.target)
    missed = None
    with watcher.shown(), watched_by(watcher), prefect_server() as wait:
        # Bad input is refused here, while Prefect takes its seconds to start.
        asked = {name: inputs[name] for name in ("model", "calibration", "evaluation", "holdout")}
        check_request(
            request_for(**asked, config=config, output=inputs["out"]), workspace_folder(inputs["workspace"]) / "files"
        )
        try:
            manifest = _run_flow(inputs, config, wait)
        except TargetError as error:
            missed, manifest = str(error), dict(cast("Outcome", error.outcome).manifest)
    if as_json:
        click.echo(manifest_json(manifest))
    else:
        print_outcome(screen, manifest, inputs["out"])
    if missed:
        click.echo(f"narrowcast: {missed}; the wide model is in {inputs['out']}", err=True)
    return 0 if manifest["target"]["met"] else 3


def _run_flow(inputs: dict[str, Any], config: MixedPrecisionConfig, wait: Callable[[], None]) -> dict[str, Any]:
    """Run the flow as soon as Prefect's server answers."""
    # What takes long to import is imported while the server starts; Prefect needs the encoders for every run.
    import fastapi.encoders  # noqa: F401

    from flows.auto_mixed_precision import auto_mixed_precision

    wait()
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
    """Entry point: turn whatever goes wrong into one line and an exit code."""
    # Set before Prefect is imported; what the user has set stands.
    for name, value in _PREFECT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    try:
        narrowcast.main(prog_name="narrowcast", standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except (click.Abort, KeyboardInterrupt):
        _fail("stopped; run the same command again to go on from here", 130)
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("NARROWCAST_TRACEBACK"):
            raise
        _fail(*_explained(error))


def _explained(error: Exception) -> tuple[str, int]:
    """One line on what went wrong, and the exit code."""
    from quant_core.errors import NarrowcastError

    text = " ".join(str(error).split())
    if isinstance(error, NarrowcastError):
        return text, 2
    if isinstance(error, OSError | MemoryError):
        reason = text or "out of memory"
        if isinstance(error, OSError) and error.strerror:
            reason = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
        return f"{reason}; finished steps are kept: run the same command again to go on from there", 1
    hint = "NARROWCAST_TRACEBACK=1 shows where"
    return f"failed with {type(error).__name__}: {text} ({hint}); finished steps are kept", 1


def _fail(message: str, code: int) -> None:
    click.echo(f"narrowcast: {message}", err=True)
    sys.exit(code)


_PREFECT_DEFAULTS = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # a task's failure comes back as an exception, said once
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",  # the first start also makes the database
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


if __name__ == "__main__":
    main()
