"""Options of a run from a YAML file, each with the line it is on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from quant_core.errors import InputError
from quant_core.validation import Mistake, no_such_option

__all__ = ["OptionFile", "parse_options", "read_option_file"]

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class OptionFile:
    """What a file says. Names of options have underscores; `batch-size` is read as `batch_size`."""

    path: str
    """As the user gave it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Value by name, those with unknown names left out."""
    lines: Mapping[Place, int] = field(default_factory=dict)
    """Line, counted from 1, of each option and of each value inside of one."""
    mistakes: tuple[Mistake, ...] = ()
    """Names that are unknown, or there twice."""

    def has(self, name: str) -> bool:
        """Return whether the file names the option, be it without a value."""
        return (name,) in self.lines

    def line(self, mistake: Mistake) -> int:
        """The line a mistake is on; 0 for one that is of the whole file."""
        place = mistake.place
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 0)

    def located(self, mistake: Mistake) -> str:
        """The mistake with the line it is on."""
        line = self.line(mistake)
        return f"{self.path}:{line}: {mistake}" if line else f"{self.path}: {mistake}"


def read_option_file(path: str, known: list[str]) -> OptionFile:
    """Read a file of options; raises InputError with the line where it is not YAML at all."""
    try:
        return parse_options(path, Path(path).read_bytes(), known)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def parse_options(path: str, content: bytes, known: list[str]) -> OptionFile:
    """The options that a file holds; raises InputError with the line where it is not YAML at all.

    Nothing in a file is executed: it is read as plain values.
    """
    try:
        text = content.decode()
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        place = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{path}{place}: is not YAML: {error.problem or error.context}") from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path}: is not YAML: {error}") from error
    if not isinstance(root, yaml.MappingNode) or not isinstance(values, dict):
        raise InputError(f"{path}: expected options like `narrow: a8w8`, one a line")
    lines = {_underscored(place): line for place, line in _lines(root)}
    options = {_underscored((name,))[0]: value for name, value in values.items()}
    return OptionFile(
        path,
        {str(name): value for name, value in options.items() if name in known and value is not None},
        lines,
        (*_unknown(options, known), *_twice(root)),
    )


def _underscored(place: Place) -> Place:
    return (str(place[0]).replace("-", "_"), *place[1:])


def _unknown(options: Mapping[Any, Any], known: list[str]) -> Iterator[Mistake]:
    for name in options:
        if name not in known:
            yield Mistake((str(name),), no_such_option(str(name), known))


def _twice(root: yaml.MappingNode) -> Iterator[Mistake]:
    """YAML takes the last of two equal keys without a word."""
    seen: dict[str, int] = {}
    for key, _ in root.value:
        name, line = str(key.value).replace("-", "_"), key.start_mark.line + 1
        if name in seen:
            yield Mistake((name,), f"is there twice, first on line {seen[name]}")
        seen.setdefault(name, line)


def _lines(node: yaml.Node, place: Place = ()) -> Iterator[tuple[Place, int]]:
    """Every key of a mapping and every item of a list, with its line. No option is deeper than three."""
    if len(place) > 2:  # where anchors refer to each other, there would be no end
        return
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, str(key.value))
            yield inner, key.start_mark.line + 1
            yield from _lines(value, inner)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*place, index), item.start_mark.line + 1
            yield from _lines(item, (*place, index))
