"""How the command line shows an option of a run: metadata of the fields of `config`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Flag", "Heading"]


class Heading(StrEnum):
    """What options are about, in the order they are shown."""

    DATA = "Data and output"
    TARGET = "Target, or budget, or both"
    PRECISIONS = "Precisions"
    RANGES = "Ranges and rounding"
    MODEL = "The model that is written"
    SEARCH = "Search"
    COST = "Cost and latency"
    RUNNING = "Running it"


@dataclass(frozen=True)
class Flag:
    """How a field is shown. Its flag is its name with dashes, its help the first sentence of its description.

    It stands in the field's annotation: `Annotated[int, Flag(Heading.SEARCH, "N")]`. Type, default, bounds and
    allowed words are those of the field.
    """

    heading: Heading
    """What the option is about."""
    metavar: str = ""
    """What stands for the value in the help; a boolean has none."""
    default: str = ""
    """The default in words, where it is no value of the field: `all cores`."""
    limits: str = ""
    """The metric that the option is a limit on, if it is one."""
    name: str = ""
    """The flag's name, where it is not the field's: `set` for `--set`."""
    is_path: bool = False
    """Whether the value is the name of a file or folder, which shells complete."""
    is_argument: bool = False
    """Whether it is given by position instead: MODEL."""
