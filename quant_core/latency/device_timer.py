"""Times model files with the user's own function: on their board, with their compiler, as they like."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.execution.slots import held_slot
from quant_core.scoring.user_function import call_function, load_function

__all__ = ["DeviceTimer", "load_timer"]

Feeds = Mapping[str, NDArray[np.generic]]
TimerFunction = Callable[[Path, Feeds], float]
"""Takes the path of a model file and its inputs for one call by name; returns milliseconds of that call."""


@dataclass(frozen=True)
class DeviceTimer:
    """A user's function, and the limit that it is called under."""

    function: str
    """`pkg.mod:fn`."""
    limit: str | None = None
    """Name of the limit of which a slot is held while it runs; None: no limit."""

    def milliseconds(self, model: Path, feeds: Feeds) -> float:
        """Time one call of a model file.

        Raises InputError, with one line, for a function that raises, or returns what is no time.
        """
        call = load_timer(self.function)
        with held_slot(self.limit):
            returned = call_function(self.function, call, model, feeds)
        return self._checked(returned)

    def _checked(self, returned: object) -> float:
        is_number = isinstance(returned, (int, float, np.integer, np.floating)) and not isinstance(returned, bool)
        found = float(cast("float", returned)) if is_number else math.nan
        if not 0 <= found < math.inf:
            raise InputError(
                f"{self.function}: returned {reprlib.repr(returned)}; it must return milliseconds, "
                "a finite number that is not negative"
            )
        return found


def load_timer(path: str) -> TimerFunction:
    """Import a user's `pkg.mod:fn`, also from the current folder; raises InputError when it is not there."""
    return cast("TimerFunction", load_function(path))
