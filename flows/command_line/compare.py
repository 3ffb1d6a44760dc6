"""`narrowcast compare`."""

from __future__ import annotations

import click

__all__ = ["compare"]


@click.command()
@click.argument("first", metavar="DIR1", type=click.Path())
@click.argument("second", metavar="DIR2", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
def compare(first: str, second: str, as_json: bool) -> None:
    """Show two finished runs side by side: target, cost, scores, settings, and the layers they narrow differently.

    \b
    narrowcast compare quantized quantized-stricter
    """
    import json
    from dataclasses import asdict

    from quant_core.results.comparison import compare as compared
    from quant_core.results.outcome import open_outcome

    found = compared(open_outcome(first), open_outcome(second))
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2, ensure_ascii=False))
    else:
        from flows.command_line.comparison_tables import print_comparison
        from flows.command_line.terminal import console

        print_comparison(console(), found)
