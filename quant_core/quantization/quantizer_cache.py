"""The quantizer that results of stages describe, made once for all steps of a run that share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from quant_core.config.quantization import QuantizationConfig
from quant_core.execution.machine import Machine
from quant_core.model.layers import layers_from_table
from quant_core.model.prepare import prepared_graph
from quant_core.quantization.quantizer import Quantizer
from quant_core.storage.tables import content_digest, facts

__all__ = ["quantizer_of"]


def quantizer_of(
    layers: pa.Table,
    calibration: pa.Table,
    config: QuantizationConfig,
    machine: Machine,
    weights: Sequence[pa.Table] = (),
) -> Quantizer:
    """The quantizer that the results of prepare, calibrate and round describe; the same one for a run's steps."""
    digests = tuple(_identity(table) for table in (layers, calibration, *weights))
    settings = config.model_dump_json()
    return _quantizer(_Recipe(digests, settings, machine.cache, layers, calibration, config, tuple(weights)))


def _identity(table: pa.Table) -> bytes:
    """Return what tells a step's result from others: the key it is stored under, if it is; else its content."""
    key = facts(table).get("key")
    return content_digest(table) if key is None else str(key).encode()


@dataclass(frozen=True)
class _Recipe:
    """What a quantizer is made of, compared by content, and where the weights it maps are."""

    digests: tuple[bytes, ...]
    settings: str
    cache: Path
    layers: pa.Table = field(compare=False)
    calibration: pa.Table = field(compare=False)
    config: QuantizationConfig = field(compare=False)
    weights: tuple[pa.Table, ...] = field(compare=False)


# Its ranges and codes are the same for every shard of probes and every plan.
@lru_cache(maxsize=1)
def _quantizer(recipe: _Recipe) -> Quantizer:
    graph = prepared_graph(facts(recipe.layers)["prepared"], recipe.cache)
    return Quantizer(graph, layers_from_table(recipe.layers), recipe.calibration, recipe.config, recipe.weights)
