"""Where prepared models are kept: a folder of the cache each, named by the model's digest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.model.graph import FloatGraph, outer_names
from quant_core.model.stored_model import (
    DATA_FILE,
    MODEL_FILE,
    ModelFolder,
    add_constants,
    is_intact,
    published,
    write_model,
)
from quant_core.storage.scratch import scratch_folder
from quant_core.storage.tables import facts

__all__ = ["is_prepared", "load_prepared", "prepared_folder", "prepared_graph", "publish_prepared"]

_STAGE = "prepared"  # the folder of the cache


def prepared_graph(layers: pa.Table, cache: Path) -> FloatGraph:
    """Return the prepared model that a layer table (schema LAYERS) was read from."""
    return load_prepared(facts(layers)["prepared"], cache)


def load_prepared(digest: str, cache: Path) -> FloatGraph:
    """Return the prepared model with that digest."""
    return FloatGraph.load(cache / _STAGE / digest / MODEL_FILE)


def prepared_folder(table: pa.Table) -> ModelFolder | None:
    """Return where the model is that a layer table was read from; None for other tables."""
    digest = facts(table).get("prepared")
    return None if digest is None else ModelFolder(f"{_STAGE}/{digest}", (DATA_FILE,))


def is_prepared(table: pa.Table, cache: Path) -> bool:
    """Return whether the files a layer table was read from are still in the cache, unchanged."""
    return is_intact(cache / _STAGE, facts(table)["prepared"], [DATA_FILE])


def publish_prepared(
    model: onnx.ModelProto, folder: Path, constants: Mapping[str, NDArray[np.generic]], cache: Path
) -> str:
    """Write a prepared model to the cache, its constants in the order of their first use, and return its digest.

    `constants` are those that are new or changed; all others are read from the model or `folder`.
    """
    graph = FloatGraph(model, folder)
    used = dict.fromkeys(name for node in graph.nodes for name in [*node.input, *outer_names(node)])
    arrays = (
        (name, constants[name] if name in constants else graph.constant(name))
        for name in used
        if name in constants or name in graph.initializers
    )
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.initializer[:]
    with scratch_folder(cache) as scratch:
        with (scratch / DATA_FILE).open("wb") as data:
            add_constants(bare, arrays, data)
        write_model(bare, scratch)
        return published(scratch, cache / _STAGE, [DATA_FILE])
