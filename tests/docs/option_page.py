"""Writes docs/options.md from the options there are: python -m tests.docs.option_page > docs/options.md"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from flows.options.catalogue import auto_options
from quant_core.options import Option

__all__ = ["option_page"]

_PREAMBLE = """\
# Options

Every option of `narrowcast auto`, with its default. In a file for `--config`, and in Python's
`MixedPrecisionConfig`, an option has its long name with underscores: `--per-channel` is `per_channel: true`.
A list is given by commas or by repeating the option, or as JSON where a name has a comma: `--exclude '["a,b", "c"]'`.
`--no-per-channel` takes back what a file says. What the command line says wins over the file.
`narrowcast layer-wise` has the same options, but for those of the search.
`narrowcast init MODEL` writes such a file; `narrowcast init --schema` prints its JSON Schema.

This page is made from the program: `python -m tests.docs.option_page > docs/options.md`.
"""


def option_page() -> str:
    """The text of the page."""
    lines = [_PREAMBLE]
    for heading, options in groupby(auto_options(), key=lambda option: option.shown.heading):
        lines += [f"## {heading}", "", "| option | what it means | default |", "| --- | --- | --- |"]
        lines += [*map(_row, options), ""]
    return "\n".join(lines)


def _row(option: Option) -> str:
    default = option.default if option.shown.default or not option.default else f"`{option.default}`"
    return f"| `{option.flag}` | {' '.join(_sentences(option)).replace('|', chr(92) + '|')} | {default} |"


def _sentences(option: Option) -> Iterator[str]:
    yield option.description
    if option.choices:
        yield f"One of {', '.join(f'`{choice}`' for choice in option.choices)}."


if __name__ == "__main__":
    print(option_page(), end="")
