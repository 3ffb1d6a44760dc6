"""`narrowcast completion`, and what is offered for the values of options."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args, get_origin

import click
from click.shell_completion import get_completion_class

__all__ = ["choices_of", "completion"]

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


def choices_of(field: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Completes an option with the values that the configuration allows for a field."""

    def complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        from quant_core.config import MixedPrecisionConfig

        return [value for value in _words(MixedPrecisionConfig.model_fields[field].annotation) if incomplete in value]

    return complete


def _words(annotation: object) -> list[str]:
    """The literal strings in a type."""
    if get_origin(annotation) is Literal:
        return [value for value in get_args(annotation) if isinstance(value, str)]
    return [word for part in get_args(annotation) for word in _words(part)]
