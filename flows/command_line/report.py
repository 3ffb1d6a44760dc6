"""`narrowcast report`."""

from __future__ import annotations

import click

__all__ = ["report"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option("--out", metavar="FILE", type=click.Path(), help="Where the page goes.  [default: DIR/report.html]")
@click.option("--open", "shown", is_flag=True, help="Open it in the browser.")
@click.option("--markdown", is_flag=True, help="Print Markdown for a pull request, or write it to --out.")
def report(folder: str, out: str | None, shown: bool, markdown: bool) -> None:
    """Make the report of a finished run again, from the manifest and the Arrow tables in its output folder DIR.

    \b
    narrowcast report quantized
    narrowcast report quantized --out quantized.html --open
    narrowcast report quantized --markdown | gh pr comment --body-file -
    """
    from pathlib import Path

    from quant_core.report.markdown import report_markdown
    from quant_core.report.page import report_page
    from quant_core.results.outcome import open_outcome
    from quant_core.storage.references import atomic_write

    if markdown and shown:
        raise click.UsageError("--open is for the page; leave it out with --markdown")
    run = open_outcome(folder)
    if markdown and out is None:
        click.echo(report_markdown(run.manifest, run.tables()), nl=False)
        return
    file = Path(out) if out else run.report
    write = report_markdown if markdown else report_page
    atomic_write(file, write(run.manifest, run.tables()).encode())
    click.echo(str(file))
    if shown:
        click.launch(file.resolve().as_uri())
