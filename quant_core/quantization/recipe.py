"""What every scale, code and bias follows from, and the quantizer that is made of it once for all steps of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from quant_core.config.quantization import QuantizationConfig
from quant_core.execution.machine import Machine
from quant_core.model.layers import layers_from_table
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.sessions import CPU
from quant_core.quantization.quantizer import Quantizer
from quant_core.storage.tables import content_digest, facts

__all__ = ["QuantizationRecipe", "quantizer_of"]


@dataclass(frozen=True)
class QuantizationRecipe:
    """What a quantizer is made of."""

    layers: pa.Table
    """Layers of the prepared model (schema LAYERS)."""
    calibration: pa.Table
    """Histograms of its tensors (schema CALIBRATION)."""
    config: QuantizationConfig
    """How ranges and codes are chosen."""
    weights: tuple[pa.Table, ...] = ()
    """Weights that were rounded with the calibration data in view, one table a type (schema WEIGHTS)."""
    providers: tuple[str, ...] = CPU
    """ONNX Runtime's execution providers that probes and plans run on; what is shipped is measured on the CPU."""


def quantizer_of(recipe: QuantizationRecipe, machine: Machine) -> Quantizer:
    """Return the quantizer of a recipe; the same one for all steps that share it."""
    tables = (recipe.layers, recipe.calibration, *recipe.weights)
    return _quantizer(_Key(tuple(map(_identity, tables)), recipe.config.model_dump_json(), machine.cache, recipe))


def _identity(table: pa.Table) -> bytes:
    """Return what tells a step's result from others: the key it is stored under, if it is; else its content."""
    key = facts(table).get("key")
    return content_digest(table) if key is None else str(key).encode()


@dataclass(frozen=True)
class _Key:
    """A recipe compared by content, and where the weights are that its quantizer maps."""

    digests: tuple[bytes, ...]
    settings: str
    cache: Path
    recipe: QuantizationRecipe = field(compare=False)


# Its ranges and codes are the same for every shard of probes and every plan.
@lru_cache(maxsize=1)
def _quantizer(key: _Key) -> Quantizer:
    recipe, graph = key.recipe, prepared_graph(key.recipe.layers, key.cache)
    return Quantizer(graph, layers_from_table(recipe.layers), recipe.calibration, recipe.config, recipe.weights)
