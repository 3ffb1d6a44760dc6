"""Help with the options of a command under headings."""

from __future__ import annotations

from collections.abc import Mapping

import click

__all__ = ["GroupedCommand"]

_HEADINGS: Mapping[str, tuple[str, ...]] = {
    "Data and output": ("calibration", "evaluation", "holdout", "preprocess", "out", "output"),
    "Precisions": ("wide", "narrow", "layer_ops", "candidates"),
    "Ranges and rounding": (
        "calibrate",
        "percentile",
        "calibrate_weights",
        "power_of_two_rounding",
        "symmetric",
        "per_channel",
        "block_size",
        "equalize",
        "correct_bias",
        "round_weights",
    ),
    "Search": (
        "search",
        "rank",
        "samples",
        "cost",
        "device_costs",
        "confidence",
        "frontier",
        "evaluations",
        "batch_size",
    ),
}
_TARGETS = ("max_", "min_")
_USUAL = "Running it"


class GroupedCommand(click.Command):
    """A command that lists its options by what they are about."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those about the target first; what has no heading is about how it is run."""
        groups: dict[str, list[tuple[str, str]]] = {name: [] for name in (*_ORDER, _USUAL)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups[_heading(parameter.name or "")].append(record)
        for name, records in groups.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


_ORDER = ("Data and output", "Target (give one)", "Precisions", "Ranges and rounding", "Search")


def _heading(name: str) -> str:
    if name.startswith(_TARGETS) or name == "metric":
        return "Target (give one)"
    return next((heading for heading, names in _HEADINGS.items() if name in names), _USUAL)
