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
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.selection import OPERATOR, names_meant, origins_of
from quant_core.pipeline.candidates.rungs import rungs_above
from quant_core.runtimes.registry import profile_of
from quant_core.scoring.compared import compared_outputs, layers_compared

__all__ = [
    "candidate_layers",
    "note_rules_without_layers",
    "note_slow_layers",
    "slow_layers",
    "warn_of_outputs_not_compared",
]


def candidate_layers(layers: pa.Table, config: RunConfig, cache: Path) -> tuple[str, ...]:
    """Return the layers that a plan may narrow, in graph order; none where none is narrowed to find something out.

    These are the layers whose narrowing shows in an output that is compared, without those that are to stay wide and
    those of `slow_layers`. One without a weight is none where only weights are narrowed.
    Raises InputError for a name or an operator in `keep_wide` or `order` that is no layer's; in `keep_wide` the names
    of the user's model are known, too.
    """
    if not isinstance(config, ProbeConfig):
        return ()
    graph, listed = prepared_graph(layers, cache), layers_from_table(layers)
    origins = {layer.name: [name for node in layer.nodes for name in origins_of(graph.nodes[node])] for layer in listed}
    operators = {layer.name: layer.op for layer in listed}
    wide = names_meant(operators, _rules_of_layers(graph, operators, config), "keep_wide", "layer", origins)
    _check_order(operators, config)
    unseen = _not_compared(graph, listed, config)
    rungs = (*rungs_above(config), *config.ladder)
    weights_alone = len({precision.activations for precision in rungs}) == 1
    changed = [layer.name for layer in listed if layer.weights or not weights_alone]
    slow = slow_layers(layers, config, cache)
    return tuple(name for name in changed if name not in wide and name not in unseen and name not in slow)


def slow_layers(layers: pa.Table, config: RunConfig, cache: Path) -> dict[str, str]:
    """Return the layers that no plan narrows since they would be slower in the runtime, each with what it is.

    There are none beside a wide precision with codes, and none where the run saves something else than bit operations,
    or has a budget: what is asked for then may take every layer.
    """
    if not isinstance(config, SearchConfig) or not config.wide.is_float:
        return {}
    if config.cost != "bops" or config.budgets or any(one.is_weight_only for one in config.narrow):
        return {}
    slower = profile_of(config.runtime).slower_in_8_bits
    if slower is None:
        return {}
    graph = prepared_graph(layers, cache)
    found = {layer.name: slower(graph, layer, config.format) for layer in layers_from_table(layers)}
    return {name: why for name, why in found.items() if why}


def _check_order(layers: Mapping[str, str], config: ProbeConfig) -> None:
    order = config.order if isinstance(config, SearchConfig) else ()
    if unknown := [name for name in order if name not in layers]:
        raise InputError(f"order: the model has no layer {unknown[0]!r}; `narrowcast inspect` lists the layers")


def _rules_of_layers(graph: FloatGraph, operators: Mapping[str, str], config: ProbeConfig) -> list[str]:
    """Return what `keep_wide` says but for operators that are no layers: they are never narrowed."""
    others = {node.op_type for node in graph.nodes} - set(operators.values())
    return [rule for rule in config.keep_wide if rule.removeprefix(OPERATOR) not in others or rule in operators]


def note_rules_without_layers(layers: pa.Table, config: RunConfig, cache: Path) -> None:
    """Report the operators to keep wide that are no layers: they stay wide in any case."""
    if isinstance(config, ProbeConfig):
        operators = {layer.name: layer.op for layer in layers_from_table(layers)}
        kept = _rules_of_layers(prepared_graph(layers, cache), operators, config)
        for rule in config.keep_wide:
            if rule not in kept:
                watcher().noted(f"keep_wide: {rule!r} changes nothing: such operators are no layers and never narrowed")


def note_slow_layers(layers: pa.Table, config: RunConfig, cache: Path) -> None:
    """Report the layers that stay float for the sake of speed."""
    found = slow_layers(layers, config, cache)
    if found:
        named = ", ".join(f"{name} ({why})" for name, why in found.items())
        watcher().noted(f"no plan narrows what {config.runtime} runs more slowly in 8 bits than in float: {named}")


def warn_of_outputs_not_compared(layers: pa.Table, config: RunConfig, cache: Path) -> None:
    """Report the outputs that are not compared, and the layers that stay wide because they reach no other."""
    graph = prepared_graph(layers, cache)
    compared = compared_outputs(graph, config.output)
    others = [name for name in graph.outputs if name not in compared and graph.inside.get(name) not in compared]
    unseen = _not_compared(graph, layers_from_table(layers), config)
    if others:
        kept = f"; layers that reach no other output stay wide: {', '.join(unseen)}" if unseen else ""
        watcher().warned(f"not compared: {', '.join(others)}{kept}")
    inside = ", ".join(name for name in compared if name in graph.inside.values())
    if inside and profile_of(config.runtime).opens:
        watcher().noted(
            f"inside the model: {inside}. The score in {config.runtime} is that of a copy of the file that gives this "
            "too, and nodes around it may not be fused there as they are in the file itself"
        )


def _not_compared(graph: FloatGraph, layers: list[Layer], config: RunConfig) -> list[str]:
    """Return the layers that reach no output that is compared."""
    reached = layers_compared(graph, compared_outputs(graph, config.output))
    return [layer.name for layer in layers if not any(graph.nodes[node].name in reached for node in layer.nodes)]
