"""`narrowcast report`."""

from __future__ import annotations

import click

__all__ = ["report"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--out", metavar="FILE", type=click.Path(), help="Where the page goes.  [default: DIR/report.html]")
@click.option("--open", "shown", is_flag=True, help="Open it in the browser.")
def report(folder: str, out: str | None, shown: bool) -> None:
    """Make the report of a finished run again, from the manifest and the Arrow tables in its output folder DIR.

    \b
    narrowcast report quantized
    narrowcast report quantized --out quantized.html --open
    """
    from pathlib import Path

    from quant_core.report import report_page
    from quant_core.results.outcome import open_outcome
    from quant_core.storage.references import atomic_write

    run = open_outcome(folder)
    file = Path(out) if out else run.report
    atomic_write(file, report_page(run.manifest, run.tables()).encode())
    click.echo(str(file))
    if shown:
        click.launch(file.resolve().as_uri())
