"""The layers that a plan may narrow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from quant_core.config import ProbeConfig, RunConfig, SearchConfig
from quant_core.errors import InputError
from quant_core.execution.progress import watcher
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import Layer, layers_from_table
from quant_core.model.prepare import prepared_graph
from quant_core.model.selection import OPERATOR, names_meant, origins_of
from quant_core.pipeline.lifting import rungs_above
from quant_core.scoring.compared import compared_outputs, layers_compared
from quant_core.storage.tables import facts

__all__ = ["candidate_layers", "note_rules_without_layers", "warn_of_outputs_not_compared"]


def candidate_layers(layers: pa.Table, config: RunConfig, cache: Path) -> tuple[str, ...]:
    """Return the layers that a plan may narrow, in graph order; none where none is narrowed to find something out.

    These are the layers whose narrowing shows in an output that is compared, without those that are to stay wide. One
    without a weight is none where only weights are narrowed.
    Raises InputError for a name or an operator in `keep_wide` or `order` that is no layer's; in `keep_wide` the names
    of the user's model are known, too.
    """
    if not isinstance(config, ProbeConfig):
        return ()
    graph, listed = prepared_graph(facts(layers)["prepared"], cache), layers_from_table(layers)
    origins = {layer.name: [name for node in layer.nodes for name in origins_of(graph.nodes[node])] for layer in listed}
    operators = {layer.name: layer.op for layer in listed}
    wide = names_meant(operators, _rules_of_layers(graph, operators, config), "keep_wide", "layer", origins)
    _check_order(operators, config)
    unseen = _not_compared(graph, listed, config)
    rungs = (*rungs_above(config), *config.ladder)
    weights_alone = len({precision.activations for precision in rungs}) == 1
    changed = [layer.name for layer in listed if layer.weight is not None or not weights_alone]
    return tuple(name for name in changed if name not in wide and name not in unseen)


def _check_order(layers: Mapping[str, str], config: ProbeConfig) -> None:
    order = config.order if isinstance(config, SearchConfig) else ()
    if unknown := [name for name in order if name not in layers]:
        raise InputError(f"order: the model has no layer {unknown[0]!r}; `narrowcast inspect` lists the layers")


def _rules_of_layers(graph: FloatGraph, operators: Mapping[str, str], config: ProbeConfig) -> list[str]:
    """Return what `keep_wide` says but for operators that are no layers: they are never narrowed."""
    others = {node.op_type for node in graph.nodes} - set(operators.values())
    return [rule for rule in config.keep_wide if rule.removeprefix(OPERATOR) not in others or rule in operators]


def note_rules_without_layers(layers: pa.Table, config: RunConfig, cache: Path) -> None:
    """Tell whoever watches which operators to keep wide are no layers: that they stay wide in any case."""
    if isinstance(config, ProbeConfig):
        operators = {layer.name: layer.op for layer in layers_from_table(layers)}
        kept = _rules_of_layers(prepared_graph(facts(layers)["prepared"], cache), operators, config)
        for rule in config.keep_wide:
            if rule not in kept:
                watcher().noted(f"keep_wide: {rule!r} changes nothing: such operators are no layers and never narrowed")


def warn_of_outputs_not_compared(layers: pa.Table, config: RunConfig, cache: Path) -> None:
    """Tell whoever watches which outputs are not compared, and which layers stay wide since they reach no other."""
    graph = prepared_graph(facts(layers)["prepared"], cache)
    compared = compared_outputs(graph, config.output)
    others = [name for name in graph.outputs if name not in compared]
    unseen = _not_compared(graph, layers_from_table(layers), config)
    if others:
        kept = f"; layers that reach no other output stay wide: {', '.join(unseen)}" if unseen else ""
        watcher().warned(f"not compared: {', '.join(others)}{kept}")


def _not_compared(graph: FloatGraph, layers: list[Layer], config: RunConfig) -> list[str]:
    """Return the layers that reach no output that is compared."""
    reached = layers_compared(graph, compared_outputs(graph, config.output))
    return [layer.name for layer in layers if not any(graph.nodes[node].name in reached for node in layer.nodes)]
