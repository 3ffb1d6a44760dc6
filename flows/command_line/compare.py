"""`narrowcast compare`."""

from __future__ import annotations

import click

__all__ = ["compare"]


@click.command()
@click.argument("first", metavar="DIR1", type=click.Path())
@click.argument("second", metavar="DIR2", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--markdown", is_flag=True, help="Print Markdown instead of tables, for a pull request.")
@click.option("--out", metavar="FILE", type=click.Path(), help="Write a page with the charts of both instead.")
def compare(first: str, second: str, as_json: bool, markdown: bool, out: str | None) -> None:
    """Show two finished runs side by side: target, cost, scores, settings, and the layers they narrow differently.

    \b
    narrowcast compare quantized quantized-stricter
    narrowcast compare quantized quantized-stricter --out comparison.html
    """
    import json
    from dataclasses import asdict
    from pathlib import Path

    from quant_core.results.comparison import compare as compared
    from quant_core.results.comparison_page import comparison_markdown, comparison_page
    from quant_core.results.outcome import open_outcome
    from quant_core.storage.references import atomic_write

    if as_json + markdown + (out is not None) > 1:
        raise click.UsageError("give one of --json, --markdown and --out")
    runs = open_outcome(first), open_outcome(second)
    found = compared(*runs)
    if out is not None:
        atomic_write(Path(out), comparison_page(found, *runs).encode())
        click.echo(out)
    elif markdown:
        click.echo(comparison_markdown(found), nl=False)
    elif as_json:
        click.echo(json.dumps(asdict(found), indent=2, ensure_ascii=False))
    else:
        from flows.command_line.comparison_tables import print_comparison
        from flows.command_line.terminal import console

        print_comparison(console(), found)
