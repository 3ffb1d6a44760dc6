"""`narrowcast demo`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows.command_line.run import quantize
from flows.command_line.table_command import TableCommand

if TYPE_CHECKING:
    from quant_core.options import Option

__all__ = ["demo"]


def _table() -> Sequence[Option]:
    from flows.options.catalogue import rows

    return rows("workers", "workspace")


@click.command(cls=TableCommand, table=_table, starts_server=True)
@click.option("--out", metavar="DIR", default="narrowcast-demo", show_default=True, help="Folder for data and result.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the manifest, as JSON.")
def demo(out: str, workers: int | None, workspace: str | None, as_json: bool) -> None:
    """Run `auto` on the built-in example: handwritten digits and a small CNN.

    \b
    narrowcast demo
    narrowcast demo --out digits --json | jq .scores

    It prints the `narrowcast auto` command that does the same: data and model are written as files first.
    """
    from flows.demo import DEMO_OPTIONS, write_example
    from flows.options.run_options import INPUTS, configuration
    from quant_core.storage.folders import usable_folder

    click.get_current_context().obj.begin()  # nothing of the example is refused
    paths = write_example(usable_folder(Path(out), "output folder"))
    if not as_json:
        options = {name: value for name, value in (paths | DEMO_OPTIONS | {"out": out}).items() if name != "model"}
        flags = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        click.echo(shlex.join(["narrowcast", "auto", paths["model"], *flags]) + "\n")
    inputs = dict.fromkeys(INPUTS) | paths | {"out": out, "workers": workers, "workspace": workspace}
    sys.exit(quantize(inputs, configuration(dict(DEMO_OPTIONS)), as_json))
