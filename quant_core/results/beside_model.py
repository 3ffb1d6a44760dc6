"""Writes what a runtime's own tools want beside a model."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

from quant_core.model.prepared_model import prepared_graph
from quant_core.runtimes.encoded_tensors import encoded_tensors
from quant_core.runtimes.registry import PROFILES, profile_of
from quant_core.runtimes.written_model import WrittenModel
from quant_core.storage.references import atomic_write

__all__ = ["write_beside"]


def write_beside(folder: Path, runtime: str, file: Path, layers: pa.Table, cache: Path) -> None:
    """Write the files of a runtime for a quantized `file`; those of other runtimes are removed.

    They have the names of tensors in the prepared model, which is the one of `layers` (schema LAYERS) in the cache.
    """
    wanted = profile_of(runtime).beside
    for name in {name for profile in PROFILES.values() for name in profile.beside} - wanted.keys():
        (folder / name).unlink(missing_ok=True)
    if not wanted:
        return
    graph = prepared_graph(layers, cache)
    names = {*graph.inputs, *graph.initializers, *(name for node in graph.nodes for name in node.output)}
    tensors = encoded_tensors(WrittenModel.of_file(file), names)
    for name, content in wanted.items():
        atomic_write(folder / name, json.dumps(content(tensors), indent=1).encode())
