"""Splits the blocks that a search left wide where that costs most, each in two parts, and probes one of these.

A block stays wide as a whole where one of its layers loses much. What a search over blocks leaves to be saved lies in
few of them, so that few further probes find most of it. What both parts lose together is known, and taken to be the sum
of what each loses: so the second need not be probed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from quant_core.execution.progress import watcher
from quant_core.execution.runner import Runner
from quant_core.pipeline.candidates.probe_rounds import probe_rounds
from quant_core.pipeline.plans.study import Study
from quant_core.pipeline.stages import RANK
from quant_core.precision import Precision
from quant_core.storage.schemas import SENSITIVITY
from quant_core.storage.tables import facts, with_facts

__all__ = ["found_blocks", "probes_of", "split_blocks"]

_SHARE = 2
"""Single layers to one probe, at least."""
_LEAST = 0.1
"""Share of its block's loss that a part has at least, where it is not probed."""


def probes_of(ranking: pa.Table) -> list[int]:
    """Return the samples of each probe: those of the ranking, and of blocks that were split."""
    samples = [*ranking.column("samples").to_pylist(), *(row["samples"] for row in facts(ranking).get("split", []))]
    return [count for count in samples if count]


def found_blocks(study: Study) -> bool:
    """Return whether blocks were found, not given: what a user lists stays together."""
    return bool(study.blocks) and study.job.config.blocks in (("graph",), ("names",))


def split_blocks(study: Study, ranking: pa.Table, on: Runner) -> tuple[Study, pa.Table] | None:
    """Return the study with some blocks in two parts, and the ranking (schema SENSITIVITY) with the losses of both.

    They are those that cost most above what they cost at their cheapest, in the best plan so far, as long as half as
    many probes as single layers would take are enough; None where there are none, or no probes are left. A part that
    was not probed has no samples. The facts of the ranking keep the rows of the blocks that were split, each with its
    `parts`: `split`.
    """
    chosen = {block: _parts(study, block) for block in _chosen(study, ranking)}
    if not chosen:
        return None
    watcher().noted(f"{len(chosen)} blocks are split in two that cost most")
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


def _chosen(study: Study, ranking: pa.Table) -> list[tuple[str, ...]]:
    """Return the blocks to split, those first that leave most to be saved; each takes a probe a precision."""
    most = len(study.candidates) // _SHARE - len(probes_of(ranking)) // (len(study.ladder) - 1)
    plan = dict(study.best_first()[0].plan.layers)
    left = {block: sum(_left(study, plan, name) for name in block) for block in study.blocks}
    return [block for block in sorted(left, key=lambda block: -left[block]) if left[block] > 0][: max(most, 0)]


def _parts(study: Study, block: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the layers of a block that leave at least half of what it leaves to be saved, as few as may be; the rest.

    What is expensive is often not what loses most.
    """
    plan = dict(study.best_first()[0].plan.layers)
    left = {name: _left(study, plan, name) for name in block}
    dearest: list[str] = []
    for name in sorted(block, key=lambda name: -left[name])[:-1]:
        dearest.append(name)
        if 2 * sum(left[one] for one in dearest) >= sum(left.values()):
            break
    return tuple(name for name in block if name in dearest), tuple(name for name in block if name not in dearest)


def _left(study: Study, plan: Mapping[str, Precision], name: str) -> float:
    """Return what a layer costs in a plan above what it costs at its cheapest."""
    prices = study.cost.prices
    return prices[name, plan[name]] - min(prices[name, one] for one in study.ladder)
