"""Help with the options of a command under headings."""

from __future__ import annotations

from collections.abc import Mapping

import click

__all__ = ["HEADINGS", "GroupedCommand", "heading_of"]

_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "Data and output": ("model", "calibration", "evaluation", "holdout", "preprocess", "out", "output"),
    "Precisions": (
        "wide",
        "narrow",
        "layer_ops",
        "candidates",
        "exclude",
        "keep_wide",
        "format",
        "biases",
        "dual_pairs",
    ),
    "Ranges and rounding": (
        "calibrate",
        "percentile",
        "providers",
        "calibrate_weights",
        "power_of_two_rounding",
        "symmetric",
        "per_channel",
        "block_size",
        "optimize",
        "pairs",
        "equalize",
        "correct_bias",
        "round_weights",
    ),
    "Search": (
        "search",
        "most_layers",
        "rank",
        "samples",
        "cost",
        "device_costs",
        "time_models",
        "confidence",
        "frontier",
        "evaluations",
        "batch_size",
    ),
}
_TARGETS = ("max_", "min_")
_TARGET, _USUAL = "Target, or budget, or one of each", "Running it"


class GroupedCommand(click.Command):
    """A command that lists its options by what they are about."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those about the target first; what has no heading is about how it is run."""
        groups: dict[str, list[tuple[str, str]]] = {name: [] for name in HEADINGS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups[heading_of(parameter.name or "")].append(record)
        for name, records in groups.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)


HEADINGS = ("Data and output", _TARGET, "Precisions", "Ranges and rounding", "Search", _USUAL)
"""What options are about, in the order they are shown."""


def heading_of(name: str) -> str:
    """What an option is about."""
    if name.startswith(_TARGETS) or name == "metric":
        return _TARGET
    return next((heading for heading, names in _OPTIONS.items() if name in names), _USUAL)
