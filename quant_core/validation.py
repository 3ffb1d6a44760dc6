"""Everything that is wrong with a configuration at once, each mistake with its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from quant_core.errors import InputError

__all__ = ["Mistake", "MistakesError", "mistakes_in", "mistakes_of", "no_such_option"]


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong."""

    place: tuple[str | int, ...]
    """Where: the names and positions that lead to it; empty for the whole."""
    message: str
    """What is wrong, and what would be right."""

    def __str__(self) -> str:
        place = ".".join(map(str, self.place))
        return self.message if self.message.startswith(place) else f"{place}: {self.message}"


class MistakesError(InputError):
    """A configuration is wrong in one place or several; a line for each."""

    def __init__(self, lines: Iterable[str | Mistake]) -> None:
        self.lines = tuple(map(str, lines))
        """One mistake each."""
        super().__init__("; ".join(self.lines))


def mistakes_in(model: type[BaseModel], options: Mapping[str, Any], stand_ins: Mapping[str, Any]) -> list[Mistake]:
    """All that is wrong with the options of a configuration.

    How fields go together is only looked at once each is right by itself: so what is wrong is left out, or replaced
    by its stand-in, and the rest looked at again.
    """
    left, found = dict(options), list[Mistake]()
    while True:
        try:
            model.model_validate(left)
            return found
        except ValidationError as error:
            new = [mistake for mistake in mistakes_of(error, model) if mistake not in found]
        found += new
        wrong = [str(mistake.place[0]) for mistake in new if mistake.place]
        if not any(left.get(name) != stand_ins.get(name) for name in wrong):
            return found
        for name in wrong:
            left.pop(name, None)
            left |= {name: stand_ins[name]} if name in stand_ins else {}


def mistakes_of(error: ValidationError, model: type[BaseModel]) -> list[Mistake]:
    """Return what pydantic finds wrong, one mistake a place; of a field with several types, all complaints together."""
    by_place: dict[tuple[str | int, ...], list[str]] = {}
    for one in error.errors():
        place, message = _place(one, model), _message(one, model)
        if not place:  # about how fields go together: the message begins with the one to change
            first = re.match(r"\w+", message)
            place = (first[0],) if first and first[0] in model.model_fields else ()
            message = message.removeprefix(f"{place[0]}: ") if place else message
        by_place.setdefault(place, []).append(message)
    return [Mistake(place, " or ".join(dict.fromkeys(messages))) for place, messages in by_place.items()]


def _place(error: ErrorDetails, model: type[BaseModel]) -> tuple[str | int, ...]:
    # After the name of a field with several types, pydantic adds the one it tried.
    field = model.model_fields.get(str(error["loc"][0])) if error["loc"] else None
    names = {*getattr(field.annotation, "model_fields", ())} if field else set()
    kept = [part for part in error["loc"][1:] if isinstance(part, int) or part in names or error["type"] == _EXTRA]
    return (*error["loc"][:1], *kept)


_EXTRA = "extra_forbidden"


def _message(error: ErrorDetails, model: type[BaseModel]) -> str:
    if error["type"] != _EXTRA:
        return error["msg"].removeprefix("Value error, ")
    *outer, name = error["loc"]
    field = model.model_fields.get(str(outer[0])) if outer else None
    known = getattr(field.annotation, "model_fields", model.model_fields) if field else model.model_fields
    return no_such_option(str(name), known)


def no_such_option(name: str, known: Iterable[str]) -> str:
    """Return what to say of an unknown name: the nearest known one, or all of them."""
    listed = list(known)
    near = get_close_matches(name, listed, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(listed)}"
    return f"is not an option; {hint}"
