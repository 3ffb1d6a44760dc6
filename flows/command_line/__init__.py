"""The command line, one module a command. Heavy imports wait until a command runs, so that help comes at once."""

from __future__ import annotations

import gc
import os
import sys
import warnings

import click

from flows.command_line.analyse import analyse
from flows.command_line.auto import auto
from flows.command_line.check import check
from flows.command_line.compare import compare
from flows.command_line.completion import completion
from flows.command_line.demo import demo
from flows.command_line.init import init
from flows.command_line.inspect import inspect
from flows.command_line.layer_wise import layer_wise
from flows.command_line.mlflow import mlflow
from flows.command_line.pick import pick
from flows.command_line.report import report
from flows.command_line.rollback import rollback
from flows.command_line.runtimes import runtimes
from flows.command_line.watch import watch
from flows.entry_point import STOPPED, is_interrupt

__all__ = ["main", "set_up_process"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="narrowcast", prog_name="narrowcast")
def narrowcast() -> None:
    """Find the narrowest mix of precisions at which an ONNX model still meets a target.

    \b
    Try it:             narrowcast demo
    Look at a model:    narrowcast inspect model.onnx
    What costs bits:    narrowcast analyse model.onnx --calibration calib.npz --evaluation eval.npz \\
                            --out analysis
    All options:        narrowcast init model.onnx > quant.yaml
    Quantize it:        narrowcast auto model.onnx --calibration calib.npz --evaluation eval.npz \\
                            --max-top1-drop 0.005 --out quantized
    Look at a result:   narrowcast report quantized --open
    Another target:     narrowcast pick quantized --max-top1-drop 0.003
    Two results:        narrowcast compare quantized quantized-stricter
    A folder of models: narrowcast watch models --out quantized
    An earlier version: narrowcast rollback quantized/resnet20

    Colours appear on a terminal only, and never where NO_COLOR is set.
    """


for _command in (
    analyse,
    auto,
    check,
    compare,
    completion,
    demo,
    init,
    inspect,
    layer_wise,
    mlflow,
    pick,
    report,
    rollback,
    runtimes,
    watch,
):
    narrowcast.add_command(_command)


def set_up_process() -> None:
    """Set what holds for a process that runs a command, before Prefect is imported; what the user has set stands."""
    for name, value in _PREFECT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    # Where that matters, its server does not start, and the error names the folder.
    warnings.filterwarnings("ignore", "Failed to create the Prefect home directory")
    # A start makes 300,000 objects, most of modules, which stay: a collection in between walks over all of them.
    gc.set_threshold(500_000)


def main() -> None:
    """Entry point: turn whatever goes wrong into one line and an exit code."""
    set_up_process()
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
        _fail(*STOPPED)
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("NARROWCAST_TRACEBACK"):
            raise
        _fail(*(STOPPED if is_interrupt(error) else _explained(error)))


def _explained(error: Exception) -> tuple[str, int]:
    """One line on what went wrong, or several on several mistakes, and the exit code."""
    from quant_core.errors import NarrowcastError, OutageError, named, one_line

    if isinstance(lines := getattr(error, "lines", None), tuple):
        return "\nnarrowcast: ".join(lines), 2
    if isinstance(error, OutageError):
        return f"{one_line(error)}; finished steps are kept: run the same command again to go on from there", 1
    if isinstance(error, NarrowcastError):
        return one_line(error), 2
    if isinstance(error, OSError | MemoryError):
        reason = one_line(error) if str(error).strip() else "out of memory"
        if isinstance(error, OSError) and error.strerror:
            reason = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
        return f"{reason}; finished steps are kept: run the same command again to go on from there", 1
    hint = "NARROWCAST_TRACEBACK=1 shows where"
    return f"failed with {named(error)} ({hint}); finished steps are kept", 1


def _fail(message: str, code: int) -> None:
    click.echo(f"narrowcast: {message}", err=True)
    sys.exit(code)


_PREFECT_DEFAULTS = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # a task's failure comes back as an exception, said once
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_ROOT_LEVEL": "CRITICAL",  # EventsWorker and others log outside of prefect
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",  # the first start also makes the database
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
