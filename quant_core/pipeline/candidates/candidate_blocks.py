"""The blocks of layers that a search moves together, as the option `blocks` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import yaml

from quant_core.config import RunConfig, SearchConfig
from quant_core.errors import InputError, one_line
from quant_core.execution.progress import watcher
from quant_core.latency.neighbours import neighbours_of
from quant_core.model.blocks import blocks_by_name, blocks_in_graph
from quant_core.model.layers import Layer, layers_from_table
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.selection import names_meant
from quant_core.model.topology import Topology

__all__ = ["candidate_blocks", "counted_neighbours"]

Blocks = tuple[tuple[str, ...], ...]


def candidate_blocks(layers: pa.Table, candidates: Sequence[str], config: RunConfig, cache: Path) -> Blocks:
    """Return the blocks of at least two candidates; none where every layer is on its own.

    Raises InputError for a file that lists no blocks, for a name that is no layer's, and for a layer in two blocks.
    """
    if not isinstance(config, SearchConfig) or not config.blocks:
        return ()
    listed = layers_from_table(layers)
    found = _found(config.blocks, layers, listed, cache)
    moving = [tuple(name for name in block if name in candidates) for block in found]
    blocks = tuple(block for block in moving if len(block) > 1)
    alone = len(candidates) - sum(map(len, blocks))
    watcher().noted(f"{len(candidates)} layers move as {len(blocks)} blocks and {alone} single layers")
    return blocks


def counted_neighbours(layers: pa.Table, blocks: Blocks, config: RunConfig, cache: Path) -> tuple[tuple[str, str], ...]:
    """Return the pairs of layers whose boundaries count: with blocks, where no cost says what boundaries take.

    Nor do they where a strategy keeps to the order of the ranking.
    """
    if not blocks or not isinstance(config, SearchConfig) or config.search not in ("greedy", "knapsack"):
        return ()
    if config.budgets or config.counts_latency:
        return ()
    listed = layers_from_table(layers)
    topology = Topology.of(prepared_graph(layers, cache), listed)
    return tuple((pair.first, pair.second) for pair in neighbours_of(topology, listed))


def _found(rules: Sequence[str], layers: pa.Table, listed: Sequence[Layer], cache: Path) -> Sequence[Sequence[str]]:
    match rules:
        case ["graph"]:
            return blocks_in_graph(prepared_graph(layers, cache), listed)
        case ["names"]:
            return blocks_by_name(listed)
        case [file] if file.endswith((".yaml", ".yml", ".json")):
            return _meant(_of_file(Path(file)), listed)
    return _meant([[rule] for rule in rules], listed)


def _of_file(path: Path) -> list[list[str]]:
    """Return the names and patterns of each block in a file: a list of lists, or lists by the blocks' names."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"blocks: {path} cannot be read: {one_line(error)}") from error
    blocks = list(content.values()) if isinstance(content, Mapping) else content
    if not isinstance(blocks, list) or not all(
        isinstance(block, list) and block and all(isinstance(name, str) for name in block) for block in blocks
    ):
        raise InputError(f'blocks: {path} must list blocks, each a list of layers: [["/a/Conv", "/b/*"], ...]')
    return blocks


def _meant(rules: Sequence[Sequence[str]], listed: Sequence[Layer]) -> list[list[str]]:
    """Return the layers of each block, in graph order."""
    operators = {layer.name: layer.op for layer in listed}
    taken: dict[str, Sequence[str]] = {}
    found = []
    for block in rules:
        names = names_meant(operators, block, "blocks", "layer")
        for name in names & taken.keys():
            raise InputError(f"blocks: layer {name!r} is in two of them, {list(taken[name])} and {list(block)}")
        taken |= dict.fromkeys(names, block)
        found.append([name for name in operators if name in names])
    return found
