"""Notes that one step leaves in a model's metadata for the next, under keys of narrowcast's own."""

from __future__ import annotations

import onnx

__all__ = ["OWN_PREFIX", "note", "noted"]

OWN_PREFIX = "narrowcast."
"""Begins the keys of narrowcast's own metadata."""


def note(model: onnx.ModelProto, key: str, value: str) -> None:
    """Note a text down in a model under a key, in place of what is noted there."""
    kept = [entry for entry in model.metadata_props if entry.key != key]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=key, value=value)


def noted(model: onnx.ModelProto, key: str) -> str | None:
    """Return what is noted down in a model under a key; None where nothing is."""
    return next((entry.value for entry in model.metadata_props if entry.key == key), None)
