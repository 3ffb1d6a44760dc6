"""Writes docs/runtimes.md from the profiles there are: python -m tests.docs.runtime_page > docs/runtimes.md"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module

from quant_core.precision import DataType
from quant_core.runtimes.profile import RuntimeProfile
from quant_core.runtimes.registry import PROFILES

__all__ = ["runtime_page"]

_PREAMBLE = """\
# Runtimes

Where a model can be written for: `--runtime NAME`. Where the runtime is run here, the finished file is scored and timed
in it, as an application opens it; else the score is what the Q/DQ pairs say, and is told so. `narrowcast check
MODEL --runtime NAME --evaluation DATA` holds any quantized file against one.

This page is made from the program: `python -m tests.docs.runtime_page > docs/runtimes.md`.
"""


def runtime_page() -> str:
    """The text of the page."""
    lines = [_PREAMBLE, "| runtime | is | scored |", "| --- | --- | --- |"]
    lines += [f"| [`{one.name}`](#{one.name}) | {one.title} | {_scored(one)} |" for one in PROFILES.values()]
    for profile in PROFILES.values():
        lines += ["", *_section(profile)]
    return "\n".join([*lines, ""])


def _scored(profile: RuntimeProfile) -> str:
    if profile.opens is None:
        return "as the pairs say"
    return f"there, with `narrowcast[{profile.name}]`" if profile.package else "there"


def _section(profile: RuntimeProfile) -> Iterator[str]:
    yield from (f"## {profile.name}", "", profile.numbers, "")
    yield f"* Activations: {_names(profile.activations)}; weights: {_names(profile.weights)}; floats beside them."
    alone = _names(profile.weights_alone)
    yield f"* Weight-only layers (`float32w8`): {f'weights of {alone}' if alone else 'none'}."
    recurrent = ", ".join(profile.recurrent_layers) or "none"
    beside = " (beside floats only)" if profile.has_recurrent_weights_alone else ""
    yield f"* Recurrent layers: {recurrent}{beside}. {profile.recurrent}".strip()
    if profile.defaults:
        yield f"* Defaults: {', '.join(f'`{_as_flag(*one)}`' for one in profile.defaults.items())}."
    if profile.assumes:
        yield f"* The score assumes that {profile.assumes}."
    for name, legal in profile.options.items():
        values = ", ".join(f"`{value}`" for value in legal)
        yield f"* No option `{name}`." if legal == (None,) else f"* Option `{name}`: {values}."
    for name, value in profile.session_entries.items():
        yield f"* An application sets `{name}` to `{value}`."
    for name, content in profile.beside.items():
        yield f"* Beside the model is `{name}`: {_first_sentence(content)}"
    yield from ("", "| rule | what breaks it | text |", "| --- | --- | --- |")
    yield from (f"| `{rule.name}` | {rule.consequence} | {rule.text} |" for rule in profile.rules)


def _as_flag(name: str, value: object) -> str:
    """An option as the command line has it."""
    return f"--{name} {','.join(map(str, value)) if isinstance(value, tuple) else value}"


def _first_sentence(content: object) -> str:
    """What the module says of itself that makes a file."""
    return " ".join((import_module(content.__module__).__doc__ or "").split())


def _names(kinds: Iterable[DataType]) -> str:
    listed = set(kinds)
    return ", ".join(str(kind) for kind in DataType if kind in listed)


if __name__ == "__main__":
    print(runtime_page(), end="")
