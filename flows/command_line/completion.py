"""`narrowcast completion`."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS), required=False)
@click.pass_context
def completion(context: click.Context, shell: str | None) -> None:
    """Print the script that makes SHELL (by default, yours) complete commands, options and their values.

    \b
    bash:  echo 'eval "$(narrowcast completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(narrowcast completion zsh)"' >> ~/.zshrc
    fish:  narrowcast completion fish > ~/.config/fish/completions/narrowcast.fish
    """
    chosen = shell or Path(os.environ.get("SHELL", "")).name
    maker = get_completion_class(chosen)
    if maker is None or chosen not in _SHELLS:
        raise click.UsageError(f"give a shell: {', '.join(_SHELLS)}")
    command = context.find_root().command
    click.echo(maker(command, {}, "narrowcast", "_NARROWCAST_COMPLETE").source())
