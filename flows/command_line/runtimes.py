"""`narrowcast runtimes`."""

from __future__ import annotations

import click

__all__ = ["runtimes"]


@click.command()
def runtimes() -> None:
    """List the runtimes that a model can be written for, and what each asks of a file.

    \b
    narrowcast runtimes
    """
    from flows.command_line.check_tables import print_runtimes
    from flows.command_line.terminal import console
    from quant_core.runtimes.registry import PROFILES

    print_runtimes(console(), PROFILES.values())
