"""A mapping over another one, in which entries differ or are missing: a ChainMap from which entries can be removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TypeVar

__all__ = ["Overlay"]

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Overlay(MutableMapping[_Key, _Value]):
    """The entries of a mapping, which stays as it is, with changes; making one takes no copy."""

    def __init__(self, below: Mapping[_Key, _Value]) -> None:
        self._below = below
        self._own: dict[_Key, _Value] = {}
        self._missing: set[_Key] = set()

    @property
    def differing(self) -> set[_Key]:
        """Keys whose entries were set to another value, added or removed."""
        changed = {key for key, value in self._own.items() if key not in self._below or self._below[key] != value}
        return changed | self._missing

    def __getitem__(self, key: _Key) -> _Value:
        """Return an entry's value."""
        if key in self._own:
            return self._own[key]
        if key in self._missing:
            raise KeyError(key)
        return self._below[key]

    def __setitem__(self, key: _Key, value: _Value) -> None:
        """Set an entry."""
        self._missing.discard(key)
        self._own[key] = value

    def __delitem__(self, key: _Key) -> None:
        """Remove an entry."""
        if key not in self:
            raise KeyError(key)
        self._own.pop(key, None)
        if key in self._below:
            self._missing.add(key)

    def __iter__(self) -> Iterator[_Key]:
        """Return the keys, those of the mapping below first."""
        yield from (key for key in self._below if key not in self._missing)
        yield from (key for key in self._own if key not in self._below)

    def __len__(self) -> int:
        """Return the number of entries."""
        return sum(1 for _ in self)
