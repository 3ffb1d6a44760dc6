"""narrowcast beside AMD Quark or Qualcomm AIMET, in turn on the same files: what each takes and what each finds.

    python -m venv quark && quark/bin/pip install torch==2.13.0 amd-quark==0.13 onnxruntime==1.28.0
    python -m tests.benchmarks.peers --quark-python quark/bin/python --model model.onnx --data images.npz \\
        --quark-limit 2.1 --holdout other.npz

    python -m venv aimet && aimet/bin/pip install torch==2.13.0 aimet-onnx==2.42.0
    python -m tests.benchmarks.peers --aimet-python aimet/bin/python --model model.onnx --data images.npz \\
        --max-top1-drop 0.002 --holdout other.npz

Quark accepts a plan by the L2 norm over a whole batch, so its limit is in that unit. narrowcast then gets as its
target the mean L2 a sample that Quark's model was measured to have: who narrows more at the same L2, and in what
time? AIMET is given the largest loss of top-1, and narrowcast the same. Times are of whole processes from start to
exit; narrowcast starts from an empty workspace and starts its Prefect server. The database of that server is made once
a machine, at Prefect's first start, before the clock runs (about 5 s; with --first-start it is counted).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.benchmarks.processes import Measured, measured
from tests.benchmarks.score import distances, narrowed


def quark(options: argparse.Namespace, out: Path) -> Measured:
    """Run Quark."""
    script = Path(__file__).parent / "quark_run.py"
    settings = [str(options.quark_limit), str(options.batch), str(options.workers)]
    files = [str(path.resolve()) for path in (options.model, options.data, out)]
    return measured([options.quark_python, str(script), *files, *settings], folder=out.parent)


def aimet(options: argparse.Namespace, out: Path) -> Measured:
    """Run AIMET."""
    script = Path(__file__).parent / "aimet_run.py"
    files = [str(path.resolve()) for path in (options.model, options.data, out)]
    settings = [str(options.max_top1_drop), str(options.batch)]
    return measured([options.aimet_python, str(script), *files, *settings], folder=out.parent)


def narrowcast(options: argparse.Namespace, out: Path, target: Sequence[str], scratch: Path) -> Measured:
    """Run narrowcast from an empty workspace, its Prefect server included."""
    command = [sys.executable, "-m", "flows.command_line", "auto", str(options.model), "--json", *target]
    command += ["--calibration", str(options.data), "--evaluation", str(options.data)]
    command += ["--workers", str(options.workers), "--workspace", str(scratch / "workspace"), "--out", str(out)]
    environment = {"PREFECT_HOME": str(scratch / "prefect")}
    if not options.first_start:
        with contextlib.suppress(RuntimeError):
            measured([sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"], **environment)
    return measured(command, **environment)


def row(name: str, model: Path, run: Measured, options: argparse.Namespace, work: str) -> list[str]:
    """What the table says of one tool."""
    data, holdout = (dict(np.load(path)) for path in (options.data, options.holdout))
    layers, total, share = narrowed(model)
    seen, unseen = distances(options.model, model, data), distances(options.model, model, holdout)
    figures = [f"{run.seconds:.1f}", f"{run.peak_mib:.0f}", work, f"{layers} of {total}", f"{share:.3f}"]
    return [name, *figures, f"{seen['l2']:.4f}", f"{unseen['l2']:.4f}", f"{unseen.get('top1', float('nan')):.4f}"]


def side_by_side(name: str, peer: Path, other: Measured, target: Sequence[str], options: argparse.Namespace) -> None:
    """Run narrowcast with the target that another tool has met, and print the table of both."""
    with tempfile.TemporaryDirectory() as folder:
        ours = Path(folder) / "narrowcast"
        mine = narrowcast(options, ours, target, Path(folder))
        work = json.loads((ours / "manifest.json").read_text())["work"]
        done = f"{work['probes']} probes, {work['evaluations']} evaluations"
        table = Table(
            "tool", "seconds", "peak MiB", "work", "narrow", "MACs share", "L2", "L2 held out", "top-1 held out"
        )
        table.add_row(*row(name, peer, other, options, ""))
        table.add_row(*row("narrowcast", ours / "model.onnx", mine, options, done))
        Console(width=140).print(table)
        print(f"narrowcast is {other.seconds / mine.seconds:.1f} times as fast", flush=True)


def main() -> None:
    """Run them and print a table for each peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quark-python", type=os.path.abspath)
    parser.add_argument("--quark-limit", type=float, help="L2 norm over a batch")
    parser.add_argument("--aimet-python", type=os.path.abspath)
    parser.add_argument("--max-top1-drop", type=float, help="what AIMET may lose")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="calibration and evaluation data (.npz)")
    parser.add_argument("--holdout", type=Path, required=True, help="data no tool sees (.npz)")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--first-start", action="store_true", help="on a machine where Prefect never ran")
    options = parser.parse_args()
    if (options.quark_python is None) != (options.quark_limit is None):
        parser.error("--quark-python and --quark-limit go together")
    if (options.aimet_python is None) != (options.max_top1_drop is None):
        parser.error("--aimet-python and --max-top1-drop go together")
    if options.quark_python is None and options.aimet_python is None:
        parser.error("name a peer: --quark-python or --aimet-python")
    with tempfile.TemporaryDirectory() as folder:
        if options.quark_python:
            file = Path(folder) / "quark.onnx"
            run = quark(options, file)
            limit = distances(options.model, file, dict(np.load(options.data)))["l2"]
            side_by_side("Quark 0.13", file, run, ["--max-l2", repr(limit)], options)
        if options.aimet_python:
            file = Path(folder) / "aimet.onnx"
            run = aimet(options, file)
            side_by_side("AIMET 2.42", file, run, ["--max-top1-drop", repr(options.max_top1_drop)], options)


if __name__ == "__main__":
    main()
