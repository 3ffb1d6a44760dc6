"""What the search finds that the documented rule does not, at the same targets on the same data.

python -m tests.benchmarks.search_gain targets MODEL.onnx DATA.npz HOLDOUT.npz    # against the documented rule
python -m tests.benchmarks.search_gain budgets MODEL.onnx DATA.npz HOLDOUT.npz    # the same the other way around
python -m tests.benchmarks.search_gain ladder MODEL.onnx DATA.npz HOLDOUT.npz     # three rungs against two, in bytes
python -m tests.benchmarks.search_gain frontier MODEL.onnx DATA.npz HOLDOUT.npz   # points, and models picked from it

DATA calibrates and evaluates. Targets lie a quarter, half and three quarters of the way from the all-wide to the
all-narrow model's L2, and at a top-1 drop (--top1). Every model is scored from its file by score.py, which has
none of narrowcast's code. The documented rule is `--search linear --rank l2-float`. Steps are kept in --cache, so
that two searches of one model probe once.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from quant_core import Outcome, TargetError
from quant_core.config import config_from
from quant_core.execution.machine import Machine, available_cores
from quant_core.execution.runner import Arguments, Runner, Stage
from quant_core.pipeline.auto import run_auto
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.picking.pick import pick
from quant_core.storage.tables import from_ipc, to_ipc
from tasks.cache.keys import step_key, with_key
from tests.benchmarks.score import outputs

RULE = {"search": "linear", "rank": "l2-float"}


class Kept(Runner):
    """Calls stages, and keeps their results in a folder."""

    def fan_out(
        self, stage: Stage, each: Sequence[Arguments], /, step: str = "", title: str = "", **common: Any
    ) -> list[pa.Table]:
        """Call a stage for what is not in the folder."""
        calls = [{**common, **arguments} for arguments in each]
        files = [self.machine.cache / f"{step_key(stage, call)}.arrow" for call in calls]
        left = [(call, file) for call, file in zip(calls, files, strict=True) if not file.exists()]
        if left:
            made = super().fan_out(stage, [call for call, _ in left], step=step, title=title)
            for table, (_, file) in zip(made, left, strict=True):
                file.write_bytes(to_ipc(with_key(table, file.stem)))
        return [from_ipc(file.read_bytes()) for file in files]


@dataclass
class Bench:
    """A model and its data, and where results go."""

    model: Path
    data: Path
    holdout: Path
    folder: Path
    options: dict[str, object]
    runs: int = field(default=0)

    def quantized(self, target: dict[str, object], **options: object) -> Outcome:
        """Run the search; the best there is where that misses the target."""
        self.runs += 1
        config, out = config_from(target=target, **self.options | options), self.folder / f"out{self.runs}"
        job = QuantizationJob.of(self.model, self.data, self.data, None, config, out, self.folder)
        try:
            return run_auto(job, Kept(Machine(self.folder, available_cores())))
        except TargetError as missed:  # the wide model, which is what either search then has
            return cast("Outcome", missed.outcome)

    @cached_property
    def references(self) -> list[tuple[dict[str, Any], NDArray[np.float64]]]:
        """The data and the held-out data, each with the float model's outputs."""
        return [(given := dict(np.load(path)), outputs(self.model, given)) for path in (self.data, self.holdout)]

    def scored(self, outcome: Outcome) -> list[str]:
        """L2 and top-1 drop of the file, each on the data and held out."""
        l2, drop = [], []
        for data, reference in self.references:
            found, labels = outputs(outcome.model, data), data["labels"][: len(reference)]
            l2.append(np.linalg.norm((found - reference).reshape(len(found), -1), axis=1).mean())
            drop.append(np.mean(reference.argmax(1) == labels) - np.mean(found.argmax(1) == labels))
        return [f"{value:.4f}" for value in (*l2, *drop)]


def targets(bench: Bench, options: argparse.Namespace) -> bool:
    """Share of the MACs narrowed and bit operations saved, by the rule and by the default search."""
    loosest = bench.quantized({"metric": "l2", "limit": 1e30}).manifest.scores
    wide, narrow = (scores["l2"] for scores in (loosest.wide, loosest.mixed))
    asked = {f"L2 at {share:.0%}": ("l2", wide + share * (narrow - wide)) for share in (0.25, 0.5, 0.75)}
    asked |= {f"L2 {limit:g}": ("l2", limit) for limit in options.l2}
    asked |= {f"top-1 drop {options.top1:g}": ("top1_drop", options.top1)}
    table = _table("target", "limit", "MACs narrowed", "BOPs saved", "plans")
    gains = {}
    for name, (metric, limit) in asked.items():
        shares = []
        for search, settings in (("rule", RULE), ("search", {})):
            outcome = bench.quantized({"metric": metric, "limit": limit}, **settings)
            found, plans = outcome.manifest.narrowed, outcome.manifest.work.evaluations
            shares.append((found.macs_share, 1 - found.bops_ratio))
            figures = [f"{limit:.4f}", f"{shares[-1][0]:.3f}", f"{shares[-1][1]:.3f}", str(plans)]
            table.add_row(f"{name}, {search}", *figures, *bench.scored(outcome))
        gains[name] = max(ours - theirs for theirs, ours in zip(*shares, strict=True))
    Console(width=160).print(f"L2 all wide {wide:.4f}, all narrow {narrow:.4f}", table)
    print("gains in points: " + ", ".join(f"{name} {100 * gain:+.1f}" for name, gain in gains.items()))
    return all(gain >= 0 for gain in gains.values())


def budgets(bench: Bench, options: argparse.Namespace) -> bool:
    """The L2 within shares of the wide model's bit operations, down the documented ranking and by the search."""
    table, kept = _table("budget", "BOPs", "plans"), True
    for share in (0.55, 0.6, 0.7, 0.8, 0.9):
        found = []
        for search, settings in (("rule", RULE), ("search", {})):
            outcome = bench.quantized({"metric": "l2"}, max_bops=share, **settings)
            found.append(outcome.manifest.scores.mixed["l2"])
            ratio, plans = outcome.manifest.narrowed.bops_ratio, outcome.manifest.work.evaluations
            table.add_row(f"{share:g}, {search}", f"{ratio:.4f}", str(plans), *bench.scored(outcome))
            kept &= ratio <= share
        kept &= found[1] <= found[0]
    Console(width=160).print(table)
    return kept


def ladder(bench: Bench, options: argparse.Namespace) -> bool:
    """Bytes of the model with a8w4 below a8w8, against those without, at the same targets."""
    loosest = bench.quantized({"metric": "l2", "limit": 1e30}, cost="bytes").manifest.scores.mixed["l2"]
    asked = [("l2", share * loosest) for share in (1.5, 2.0, 3.0)] + [("top1_drop", options.top1)]
    table = _table("target", "rungs", "file bytes", "weight bytes")
    kept = True
    for metric, limit in asked:
        sizes = []
        for narrow in (["a8w8"], ["a8w8", "a8w4"]):
            outcome = bench.quantized({"metric": metric, "limit": limit}, cost="bytes", narrow=narrow)
            sizes.append(outcome.manifest.output.bytes)
            weights = outcome.manifest.costs.of("bytes").mixed
            figures = [f"{sizes[-1]:,}", f"{weights:,.0f}"]
            table.add_row(f"{metric} {limit:.4f}", ",".join(narrow), *figures, *bench.scored(outcome))
        print(f"{metric} <= {limit:.4f}: the file is {1 - sizes[1] / sizes[0]:.1%} smaller")
        kept &= sizes[1] <= 0.75 * sizes[0]
    Console(width=160).print(table)
    return kept


def frontier(bench: Bench, options: argparse.Namespace) -> bool:
    """Points that no other beats in cost and L2, and models picked at each of them."""
    outcome = bench.quantized({"metric": "l2", "limit": options.l2[0] if options.l2 else 1.0}, frontier=True)
    rows = outcome.table("frontier").to_pylist()
    table = _table("cost", "L2 as the frontier has it", "pick, s")
    best, points, slowest, apart = float("inf"), 0, 0.0, 0.0
    for row in rows:  # by ascending cost
        if row["l2"] >= best:
            continue
        best, points = row["l2"], points + 1
        began = time.perf_counter()
        picked = pick(outcome, "l2", row["l2"], bench.folder / f"picked{points}", Machine(bench.folder))
        took = time.perf_counter() - began
        found = bench.scored(picked)
        slowest, apart = max(slowest, took), max(apart, abs(float(found[0]) - row["l2"]) / row["l2"])
        table.add_row(f"{row['cost_ratio']:.3f}", f"{row['l2']:.4f}", f"{took:.2f}", *found)
    Console(width=160).print(table)
    print(f"{points} points by L2, {len(rows)} by any metric; slowest pick {slowest:.2f} s, farthest {apart:.2%} off")
    return points >= 8 and slowest < 5 and apart < 1e-3


def _table(*columns: str) -> Table:
    return Table(*columns, "L2", "L2 held out", "top-1 drop", "held out")


def main() -> None:
    """Measure what the command line asks for; exit code 1 where the search falls short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for measure in (targets, budgets, ladder, frontier):
        command = commands.add_parser(measure.__name__, help=(measure.__doc__ or "").strip())
        command.set_defaults(measure=measure)
        for name in ("model", "data", "holdout"):
            command.add_argument(name, type=Path)
        command.add_argument("--top1", type=float, default=0.0025, help="top-1 drop that is allowed")
        command.add_argument("--l2", type=float, nargs="*", default=[], help="further limits on L2")
        command.add_argument("--per-channel", action="store_true", help="in every run, of either kind")
        command.add_argument("--cache", type=Path, help="folder that keeps steps from one measurement to the next")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.cache or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        quantization = {"per_channel": options.per_channel}
        kept = options.measure(Bench(options.model, options.data, options.holdout, folder, quantization), options)
    raise SystemExit(not kept)


if __name__ == "__main__":
    main()
