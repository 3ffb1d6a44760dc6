"""Splits the blocks at the cut of a search, each in two parts, and probes one of these.

A block stays wide as a whole where one of its layers loses much, and a narrow one may have a layer that loses most of
what all do. What a search over blocks leaves to be saved lies in few of them, so that few further probes find most of
it. What both parts lose together is known, and taken to be the sum of what each loses: the second need not be probed.
Blocks of the same operators share their losses out alike: what was found in one says where to split the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from quant_core.execution.progress import watcher
from quant_core.execution.runner import Runner
from quant_core.model.layers import layers_from_table
from quant_core.pipeline.candidates.probe_rounds import probe_rounds
from quant_core.pipeline.plans.plan_space import layer_costs, search_space, units_of
from quant_core.pipeline.plans.study import Study
from quant_core.pipeline.stages import RANK
from quant_core.search.splitting import Group, best_split, expected_shares, price_of_cut
from quant_core.storage.schemas import SENSITIVITY
from quant_core.storage.tables import facts, with_facts

__all__ = ["found_blocks", "probes_of", "split_blocks"]

Block = tuple[str, ...]
"""Names of layers that move together, in graph order."""
Parts = tuple[Block, Block]
"""The two parts of a block: the one that is probed, and the other."""

_SHARE = 2
"""Single layers to one probe, at least."""
_AT_ONCE = 2
"""Blocks that are split before the next are chosen."""
_LEAST = 0.1
"""Share of its block's loss that a part has at least, where it is not probed."""


def probes_of(ranking: pa.Table) -> list[int]:
    """Return the samples of each probe: those of the ranking, and of blocks that were split."""
    samples = [*ranking.column("samples").to_pylist(), *(row["samples"] for row in facts(ranking).get("split", []))]
    return [count for count in samples if count]


def found_blocks(study: Study) -> bool:
    """Return whether blocks were found, not given: what a user lists stays together."""
    return bool(study.blocks) and study.job.config.blocks in (("graph",), ("names",))


def split_blocks(study: Study, ranking: pa.Table, on: Runner) -> tuple[Study, pa.Table]:
    """Return the study with some blocks in parts, and the ranking (schema SENSITIVITY) with the losses of these.

    The blocks are split that promise most, a few at a time, as long as half as many probes as single layers would take
    are enough. A part that was not probed has no samples. The facts of the ranking keep the rows of the blocks that
    were split, each with its `parts`: `split`.
    """
    whole, splits = study.blocks, 0
    while chosen := _chosen(study, ranking, whole):
        study, ranking = _split(study, ranking, on, chosen)
        splits += len(chosen)
    if splits:
        watcher().noted(f"{splits} times a block was split in two where that promises most")
    return study, ranking


def _split(study: Study, ranking: pa.Table, on: Runner, chosen: Mapping[Block, Parts]) -> tuple[Study, pa.Table]:
    """Split each of the blocks in its two parts, and probe the first of these."""
    parts = [part for pair in chosen.values() for part in pair]
    kept = [block for block in study.blocks if block not in chosen]
    finer = replace(study, blocks=(*kept, *(part for part in parts if len(part) > 1)))
    dearest = {pair[0][0]: list(pair[0]) for pair in chosen.values()}
    probes, start = probe_rounds(finer, on, dearest), str(study.ladder[0])
    probed = on.run(RANK, layers=study.layers, probes=probes, start=start, blocks=dearest)
    whole = np.isin(ranking.column("layer").to_pylist(), [block[0] for block in chosen])
    firsts = {block[0]: [part[0] for part in pair] for block, pair in chosen.items()}
    split = [row | {"parts": firsts[row["layer"]]} for row in ranking.filter(whole).to_pylist()]
    others = _other_parts(split, probed.to_pylist())
    found = pa.concat_tables([ranking.filter(~whole), probed, others]).sort_by("loss")
    earlier = [_with_finer_parts(row, firsts) for row in facts(ranking).get("split", [])]
    return finer, with_facts(found, split=[*earlier, *split])


def _with_finer_parts(row: Mapping[str, Any], firsts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the row of a block that was split before, with the parts of its parts that are split now."""
    return {**row, "parts": [one for part in row["parts"] for one in firsts.get(part, [part])]}


def _other_parts(split: Sequence[Mapping[str, Any]], probed: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return what the second part of each block loses and saves at each precision: what the first leaves of it."""
    known = {(row["layer"], row["precision"]): row for row in probed}
    rows = []
    for block in split:
        first = known[block["parts"][0], block["precision"]]
        left = {name: block[name] - first[name] for name in ("loss", "bops_saved", "bytes_saved")}
        loss = left["loss"] if left["loss"] > _LEAST * block["loss"] else _LEAST * block["loss"]
        row = {"layer": block["parts"][1], "loss": loss, "samples": 0, "seconds": 0.0}
        rows.append({name: block[name] for name in SENSITIVITY.names} | left | row)
    return pa.Table.from_pylist(rows, schema=SENSITIVITY)


def _chosen(study: Study, ranking: pa.Table, whole: Sequence[Block]) -> dict[Block, Parts]:
    """Return the blocks to split and their two parts, those first that promise most; each takes a probe a precision."""
    left = len(study.candidates) // _SHARE - len(probes_of(ranking)) // (len(study.ladder) - 1)
    space, costs = search_space(study, ranking), layer_costs(study)
    price = price_of_cut(space)
    if left <= 0 or price <= 0:
        return {}
    losses = dict(zip(units_of(study), space.losses, strict=True))
    operators = {layer.name: layer.op for layer in layers_from_table(study.layers)}
    shares = expected_shares({block: tuple(operators[name] for name in block) for block in whole}, losses)
    gains: dict[Block, tuple[float, Parts]] = {}
    for block in study.blocks:
        of_layers, parts_of_loss = np.array([costs[name] for name in block]), np.array([shares[name] for name in block])
        gain, part = best_split(Group(of_layers, losses[block], parts_of_loss / parts_of_loss.sum()), price)
        if part:
            gains[block] = gain, _parts(block, part)
    best = sorted(gains, key=lambda block: -gains[block][0])
    return {block: gains[block][1] for block in best[: min(left, _AT_ONCE)]}


def _parts(block: Block, part: Sequence[int]) -> Parts:
    """Return the layers of a part, by their numbers in a block, and the others."""
    first = tuple(block[at] for at in part)
    return first, tuple(name for name in block if name not in first)
