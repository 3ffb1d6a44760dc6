"""The layers that a plan may narrow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from quant_core.config import MixedPrecisionConfig, RunConfig, SearchConfig
from quant_core.execution.progress import watcher
from quant_core.model.layers import layers_from_table
from quant_core.model.prepare import prepared_graph
from quant_core.model.selection import names_meant
from quant_core.scoring.compared import compared_outputs, layers_compared
from quant_core.storage.tables import facts

__all__ = ["candidate_layers", "narrowable"]


def candidate_layers(layers: pa.Table, config: RunConfig, cache: Path) -> tuple[str, ...]:
    """Return the layers that a plan may narrow, in graph order; none where no plan is searched for.

    A layer whose narrowing shows in no output that is compared stays wide, and is named.
    """
    if not isinstance(config, MixedPrecisionConfig):
        return ()
    graph, listed = prepared_graph(facts(layers)["prepared"], cache), layers_from_table(layers)
    outputs = compared_outputs(graph, config.output)
    reached = layers_compared(graph, outputs)
    seen = {layer.name for layer in listed if any(graph.nodes[index].name in reached for index in layer.nodes)}
    candidates = narrowable(config, [layer.name for layer in listed])
    _warn_of_others(
        [name for name in graph.outputs if name not in outputs], [name for name in candidates if name not in seen]
    )
    return tuple(name for name in candidates if name in seen)


def _warn_of_others(outputs: Sequence[str], layers: Sequence[str]) -> None:
    """Say which outputs are not compared, and which layers therefore stay wide."""
    if outputs:
        kept = f"; layers that reach no other stay wide: {', '.join(layers)}" if layers else ""
        watcher().warned(f"not compared: {', '.join(outputs)}{kept}")


def narrowable(config: SearchConfig, names: Sequence[str]) -> list[str]:
    """Return the layers that a plan may narrow; raises InputError for a name in `keep_wide` that is no layer's."""
    kept = names_meant(names, config.keep_wide, "keep_wide", "layer")
    return [name for name in names if name not in kept]
