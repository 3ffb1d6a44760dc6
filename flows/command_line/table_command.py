"""Commands whose options are rows of the table of options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pydantic import BaseModel

    from quant_core.options import Option

__all__ = ["GroupedCommand", "TableCommand", "check_given"]

_RUNNING = "Running it"
_HELP = frozenset({"-h", "--help"})
"""Flags with which nothing is run."""


class TableOption(click.Option):
    """An option that a row of the table says."""

    def __init__(self, row: Option) -> None:
        flags = f"{row.flag}/--no-{row.flag[2:]}" if row.type is bool else row.flag
        given: dict[str, Any] = {"is_flag": True} if row.type is bool else {"type": _click_type(row)}
        super().__init__(
            [row.name, flags],
            default=None,
            help=_help(row),
            metavar=row.shown.metavar or None,
            shell_complete=_offering(row.words) if row.words else None,
            multiple=row.is_list,
            **given,
        )
        self.heading = str(row.shown.heading)
        """What it is listed under."""
        self._is_off = row.default == "false"

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Return the value; of an option of several values that is repeated, all of them as a list."""
        found = super().process_value(ctx, value)
        if not self.multiple:
            return found
        if len(found) < 2:
            return found[0] if found else None

        from quant_core.options import listed

        return [word for text in found for word in listed(text)]

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return flag and help; of a boolean that is off, the flag that turns it on alone."""
        record = super().get_help_record(ctx)
        return (record[0].partition(" / ")[0], record[1]) if record and self._is_off else record


class TableCommand(click.Command):
    """A command that has options of the table, beside its own.

    The table is read when they are needed: it takes pydantic, for which a list of commands need not wait.
    """

    def __init__(
        self,
        *args: Any,
        table: Callable[[], Sequence[Option]],
        own_first: bool = False,
        starts_server: bool = False,
        **given: Any,
    ) -> None:
        super().__init__(*args, **given)
        self._table = table
        self._own_first, self._starts_server = own_first, starts_server

    @cached_property
    def _made(self) -> list[click.Parameter]:
        return [
            click.Argument([row.name], required=False, type=click.Path()) if row.shown.is_argument else TableOption(row)
            for row in self._table()
        ]

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the options of the table, and then the command's own, or these first, but for --help."""
        own = super().get_params(ctx)
        return [*own[:-1], *self._made, own[-1]] if self._own_first else [*self._made, *own]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options; where none is refused, while the process of its server (`ctx.obj`) gets ready."""
        if not self._starts_server or ctx.resilient_parsing or not _HELP.isdisjoint(args):
            return super().parse_args(ctx, args)

        from flows.temporary_server import prefect_server

        with ExitStack() as until_refused:
            ctx.obj = until_refused.enter_context(prefect_server())
            rest = super().parse_args(ctx, args)
            ctx.call_on_close(until_refused.pop_all().close)
        return rest


class GroupedCommand(TableCommand):
    """A command that lists its options by what they are about."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings; what has none is about how it is run."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "heading", _RUNNING), []).append(record)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)


def check_given(command: str, kind: type[BaseModel], given: dict[str, Any], in_file: Callable[[str], bool]) -> None:
    """Check that all that is required is given, or in the file of options; raises UsageError that names the rest."""
    from quant_core.options import options_of

    missing = [
        row.flag
        for row in options_of(kind)
        if row.field.is_required() and not given.get(row.name) and not in_file(row.name)
    ]
    if missing:
        raise click.UsageError(f"missing {', '.join(missing)}; see narrowcast {command} --help")


def _help(row: Option) -> str:
    """Return a sentence, the words to choose from, and the default."""
    choices = f" One of {', '.join(row.choices)}." if row.choices and len(row.choices) > 1 else ""
    default = row.default.strip("[]") if row.type is not bool else "yes" if row.default == "true" else ""
    return f"{row.help}{choices}" + (f"  [default: {default}]" if default else "")


def _click_type(row: Option) -> Any:
    """Return the type that click checks; what a text may be, the configuration knows."""
    if row.type is int:
        return click.IntRange(min=next((bound.ge for bound in row.field.metadata if hasattr(bound, "ge")), None))
    if row.type is float:
        return click.FLOAT
    return click.Path() if row.shown.is_path else click.STRING


def _offering(words: Sequence[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    def offer(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
        return [word for word in words if incomplete in word]

    return offer
