"""Splits the blocks that a search left wide where that costs most, each in two parts, and probes those.

A block stays wide as a whole where one of its layers loses much. What a search over blocks leaves to be saved lies in
few of them, so that few further probes find most of it. What the parts lose together is then known, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from quant_core.execution.progress import watcher
from quant_core.execution.runner import Runner
from quant_core.pipeline.probe_rounds import probe_rounds
from quant_core.pipeline.stages import RANK
from quant_core.pipeline.study import Study
from quant_core.precision import Precision
from quant_core.storage.tables import with_facts

__all__ = ["found_blocks", "split_blocks"]

_SHARE = 2
"""Single layers to one probe, at least."""


def found_blocks(study: Study) -> bool:
    """Return whether blocks were found, not given: what a user lists stays together."""
    return bool(study.blocks) and study.job.config.blocks in (("graph",), ("names",))


def split_blocks(study: Study, ranking: pa.Table, on: Runner) -> tuple[Study, pa.Table]:
    """Return the study with some blocks in two parts, and the ranking (schema SENSITIVITY) with the losses of both.

    They are those that cost most above what they cost at their cheapest, in the best plan so far, as long as half as
    many probes as single layers would take are enough. It is returned as it is where there are none. The facts of the
    ranking keep the rows of the blocks that were split, each with its `parts`: `split`.
    """
    chosen = {block: _parts(study, block) for block in _chosen(study)}
    if not chosen:
        return study, ranking
    watcher().noted(f"{len(chosen)} blocks are split in two that cost most")
    parts = [part for pair in chosen.values() for part in pair]
    kept = [block for block in study.blocks if block not in chosen]
    finer = replace(study, blocks=(*kept, *(part for part in parts if len(part) > 1)))
    first = [part[0] for part in parts]
    blocks = {part[0]: list(part) for part in parts}
    start = str(study.ladder[0])
    probed = on.run(RANK, layers=study.layers, probes=probe_rounds(finer, on, first), start=start, blocks=blocks)
    whole = pc.is_in(ranking.column("layer"), pa.array([block[0] for block in chosen]))
    found = pa.concat_tables([ranking.filter(pc.invert(whole)), probed]).sort_by("loss")
    firsts = {block[0]: [part[0] for part in pair] for block, pair in chosen.items()}
    split = [row | {"parts": firsts[row["layer"]]} for row in ranking.filter(whole).to_pylist()]
    return finer, with_facts(found, split=split)


def _chosen(study: Study) -> list[tuple[str, ...]]:
    """Return the blocks to split, those first that leave most to be saved; each takes two probes."""
    most = (len(study.candidates) // _SHARE - len(study.probed)) // 2
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
