"""Pickles that do something when they are read: what a store holds is never to be executed."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from prefect.serializers import PickleSerializer

__all__ = ["bombs"]


class Bomb:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def bombs(crater: Path) -> Iterator[bytes]:
    """A bomb as each of Python, Prefect and numpy would write it; none of them is a dud."""
    array = io.BytesIO()
    np.save(array, np.array([Bomb(crater)], dtype=object))
    readers = {
        pickle.dumps(Bomb(crater)): pickle.loads,
        PickleSerializer().dumps(Bomb(crater)): PickleSerializer().loads,
        array.getvalue(): lambda data: np.load(io.BytesIO(data), allow_pickle=True),
    }
    for data, read in readers.items():
        read(data)
        assert crater.exists(), "a dud shows nothing"
        crater.unlink()
        yield data
