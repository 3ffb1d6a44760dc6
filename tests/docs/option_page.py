"""Writes docs/options.md from the options there are: python -m tests.docs.option_page > docs/options.md"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from flows.options.catalogue import RunOption, run_options_listed

__all__ = ["option_page"]

_PREAMBLE = """\
# Options

Every option of `narrowcast auto`, with its default. In a file for `--config`, and in Python's
`MixedPrecisionConfig`, an option has its long name with underscores: `--per-channel` is `per_channel: true`.
Options without a flag can be given there only. What the command line says wins over the file.
`narrowcast init MODEL` writes such a file; `narrowcast init --schema` prints its JSON Schema.

This page is made from the program: `python -m tests.docs.option_page > docs/options.md`.
"""


def option_page() -> str:
    """The text of the page."""
    lines = [_PREAMBLE]
    for heading, options in groupby(run_options_listed(), key=lambda option: option.heading):
        lines += [f"## {heading}", "", "| option | what it means | default |", "| --- | --- | --- |"]
        lines += [*map(_row, options), ""]
    return "\n".join(lines)


def _row(option: RunOption) -> str:
    name = f"`{option.flag}`" if option.flag else f"`{option.name}`, in a file or Python only"
    default = f"`{option.default}`" if option.default and option.default_is_value else option.default
    return f"| {name} | {' '.join(_sentences(option)).replace('|', chr(92) + '|')} | {default} |"


def _sentences(option: RunOption) -> Iterator[str]:
    yield option.description
    if option.choices:
        yield f"One of {', '.join(f'`{choice}`' for choice in option.choices)}."


if __name__ == "__main__":
    print(option_page(), end="")
