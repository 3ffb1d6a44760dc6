"""Probes layers of blocks apart, those that promise most, and says what each layer of a block is expected to lose.

A block stays wide as a whole where one of its layers loses much, and a narrow one may have a layer that loses most of
what all do. What a search over blocks leaves to be saved lies in few layers, so that few further probes find most of
it: what the others of a block lose is what remains of its loss. Blocks of the same operators share their losses out
alike, so that what was found in one tells of the others. In the end the search is free to move single layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.execution.progress import watcher
from quant_core.execution.runner import Runner
from quant_core.model.layers import layers_from_table
from quant_core.pipeline.candidates.probe_rounds import probe_rounds
from quant_core.pipeline.plans.plan_space import layer_costs, search_space, units_of
from quant_core.pipeline.plans.study import Study
from quant_core.pipeline.stages import RANK
from quant_core.search.splitting import Blocks, Group, price_of_cut, values_of_knowing
from quant_core.storage.schemas import SENSITIVITY
from quant_core.storage.tables import facts, with_facts

__all__ = ["found_blocks", "probe_apart", "probes_of"]

Block = tuple[str, ...]
"""Names of layers that move together, in graph order."""

_SHARE = 2
"""Single layers to one probe, at least."""
_AT_ONCE = 2
"""Blocks, of different kinds, that a layer is probed of before the next are chosen."""
_LEAST = 0.1
"""Share of its block's loss that the rest of it has at least, where it is not probed."""


def probes_of(ranking: pa.Table) -> list[int]:
    """Return the samples of each probe: those of the ranking, and of blocks that were split."""
    samples = [*ranking.column("samples").to_pylist(), *(row["samples"] for row in facts(ranking).get("split", []))]
    return [count for count in samples if count]


def found_blocks(study: Study) -> bool:
    """Return whether blocks were found, not given: what a user lists stays together."""
    return bool(study.blocks) and study.job.config.blocks in (("graph",), ("names",))


def probe_apart(study: Study, ranking: pa.Table, on: Runner) -> tuple[Study, pa.Table, pa.Table]:
    """Return the study with every layer on its own, the ranking, and what each layer is expected to lose.

    Both tables have the schema SENSITIVITY. Layers are probed, a few at a time, as long as half as many probes as
    single layers would take are enough. What is left of a block is a row of the ranking without samples, and its facts
    keep the rows of the blocks that were split: `split`.
    """
    operators = {layer.name: layer.op for layer in layers_from_table(study.layers)}
    whole, probed = Blocks({block: tuple(operators[name] for name in block) for block in study.blocks}), 0
    while chosen := _chosen(study, ranking, whole):
        study, ranking = _split(study, ranking, on, chosen)
        probed += len(chosen)
    if probed:
        watcher().noted(f"{probed} layers were probed apart from their blocks, where that promises most")
    return replace(study, blocks=()), ranking, _expected(study, ranking, whole)


def _chosen(study: Study, ranking: pa.Table, whole: Blocks) -> dict[Block, str]:
    """Return of which blocks to probe a layer apart, and which one; each takes a probe a precision."""
    left = len(study.candidates) // _SHARE - len(probes_of(ranking)) // (len(study.ladder) - 1)
    space, costs = search_space(study, ranking), layer_costs(study)
    price = price_of_cut(space)
    if left <= 0 or price <= 0:
        return {}
    losses = _losses(study, ranking)
    shares = whole.expected_shares(losses)
    best: dict[Any, tuple[float, Block, str]] = {}
    for block in study.blocks:
        group = Group(np.array([costs[name] for name in block]), losses[block], _relative(shares, block))
        for gain, layer in values_of_knowing(group, price):
            told = gain * whole.told_of(block[layer], list(losses))
            if told > best.get(whole.kind_of(block[0]), (0.0,))[0]:
                best[whole.kind_of(block[0])] = told, block, block[layer]
    first = sorted(best.values(), key=lambda one: -one[0])[: min(left, _AT_ONCE)]
    return {block: name for _, block, name in first}


def _losses(study: Study, ranking: pa.Table) -> dict[Block, NDArray[np.float64]]:
    """Return what is known of each block, part of a block and single layer: its losses by rung."""
    return dict(zip(units_of(study), search_space(study, ranking).losses, strict=True))


def _relative(shares: Mapping[str, float], block: Block) -> NDArray[np.float64]:
    """Return the part of a block's loss that each of its layers is expected to have."""
    found = np.array([shares.get(name, 1.0) for name in block])
    return np.asarray(found / found.sum())


def _split(study: Study, ranking: pa.Table, on: Runner, chosen: Mapping[Block, str]) -> tuple[Study, pa.Table]:
    """Probe a layer of each of the blocks apart."""
    rests = {block: tuple(one for one in block if one != name) for block, name in chosen.items()}
    kept = [block for block in study.blocks if block not in chosen]
    finer = replace(study, blocks=(*kept, *(rest for rest in rests.values() if len(rest) > 1)))
    probes, start = probe_rounds(finer, on, chosen.values()), str(study.ladder[0])
    probed = on.run(RANK, layers=study.layers, probes=probes, start=start, blocks={})
    whole = np.isin(ranking.column("layer").to_pylist(), [block[0] for block in chosen])
    split = ranking.filter(whole).to_pylist()
    parts = {block[0]: (name, rests[block][0]) for block, name in chosen.items()}
    found = pa.concat_tables([ranking.filter(~whole), probed, _left(split, parts, probed.to_pylist())])
    return finer, with_facts(found.sort_by("loss"), split=[*facts(ranking).get("split", []), *split])


def _left(
    split: Sequence[Mapping[str, Any]], parts: Mapping[str, tuple[str, str]], probed: Sequence[Mapping[str, Any]]
) -> pa.Table:
    """Return what the rest of each block loses and saves at each precision: what the probed layer leaves of it."""
    known = {(row["layer"], row["precision"]): row for row in probed}
    rows = []
    for block in split:
        name, rest = parts[block["layer"]]
        left = {what: block[what] - known[name, block["precision"]][what] for what in _DIFFERENCES}
        left["loss"] = left["loss"] if left["loss"] > _LEAST * block["loss"] else _LEAST * block["loss"]
        row = {"layer": rest, "samples": 0, "seconds": 0.0}
        rows.append({name: block[name] for name in SENSITIVITY.names} | left | row)
    return pa.Table.from_pylist(rows, schema=SENSITIVITY)


_DIFFERENCES = ("loss", "bops_saved", "bytes_saved")
"""What the rest of a block has of it besides what the probed layer has."""


def _expected(study: Study, ranking: pa.Table, whole: Blocks) -> pa.Table:
    """Return the ranking with a row for each layer of a block, without samples, which has its expected loss."""
    losses = _losses(study, ranking)
    shares, named = whole.expected_shares(losses), {part[0]: part for part in losses}
    rows = []
    for row in ranking.to_pylist():
        part = named[row["layer"]]
        of_layers = zip(part, (row["loss"] * _relative(shares, part)).tolist(), strict=True)
        samples = row["samples"] if len(part) == 1 else 0
        rows += [row | {"layer": name, "loss": loss, "samples": samples} for name, loss in of_layers]
    return pa.Table.from_pylist(rows, schema=SENSITIVITY)
