"""Kills `narrowcast watch` at random moments and looks again: python -m tests.e2e.watch_kills --runs 5

After each SIGKILL every version that is there must be whole; in the end both models must be those of an undisturbed
look, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.demo import write_example
from tests.e2e.kills import VICTIMS, KillableJob

_OPTIONS = "calibration: data/calibration.npz\nevaluation: data/evaluation.npz\n"


def watched_folder(folder: Path) -> Path:
    """Two models: the demo's, at two targets."""
    example, place = write_example(folder / "example"), folder / "models"
    (place / "data").mkdir(parents=True)
    for part in ("calibration", "evaluation"):
        shutil.copy(example[part], place / "data" / f"{part}.npz")
    for name, limit in {"loose": 0.9, "strict": 0.6}.items():
        shutil.copy(example["model"], place / f"{name}.onnx")
        (place / f"{name}.yaml").write_text(f"{_OPTIONS}max_l2: {limit}\n")
    return place


class KillableWatch(KillableJob):
    """The command on the folder, with an output and a workspace of its own."""

    def __init__(self, folder: Path, prefect_home: Path, models: Path) -> None:
        super().__init__(folder, prefect_home, {"model": ""})
        places = ["--out", str(self.out), "--workspace", str(self.workspace), "--json"]
        self._command = [sys.executable, "-m", "flows.command_line", "watch", str(models), *places]

    def finish(self) -> dict[str, object]:
        """Run the command to its end; the digest of each model that is current."""
        process = self._start()
        output, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(f"exit code {process.returncode}: {output}{errors[-2000:]}")
        return {
            current.parent.name: hashlib.sha256(_model(current).read_bytes()).hexdigest()
            for current in sorted(self.out.glob("*/current.json"))
        }

    def versions(self) -> list[Path]:
        """Every folder that is there under its final name."""
        return [path for path in self.out.glob("*/*") if path.is_dir() and not path.name.startswith(".")]

    def flaws(self) -> list[str]:
        """What is there under a final name and not whole."""
        found = []
        for version in self.versions():
            manifest = version / "manifest.json"
            if not manifest.exists():
                found.append(f"{version} has no manifest")
            elif json.loads(manifest.read_text())["output"]["sha256"] != _digest(version / "model.onnx"):
                found.append(f"{version} has another model than its manifest says")
        return found + [f"{one} leads nowhere" for one in self.out.glob("*/current.json") if not _model(one).exists()]


def _model(current: Path) -> Path:
    content: Mapping[str, str] = json.loads(current.read_text())
    return current.parent / content["model"]


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""


def disturbed_looks(folder: Path, runs: int, seed: int = 0) -> list[str]:
    """Look undisturbed, then `runs` times with one to three kills each; what went wrong, a line each."""
    home, models, chance = folder / "prefect", watched_folder(folder), random.Random(seed)
    whole = KillableWatch(folder / "whole", home, models)
    expected, steps, wrong = whole.finish(), whole.finished_steps, list[str]()
    for number in range(runs):
        job, killed = KillableWatch(folder / f"run{number}", home, models), list[str]()
        for _ in range(chance.randint(1, 3)):
            victim = chance.choice(VICTIMS)
            job.run_and_kill(chance.randint(min(job.finished_steps, steps), steps), chance.uniform(0, 2), victim)
            state = f"{job.finished_steps} of {steps} steps and {len(job.versions())} of 2 models there"
            killed.append(f"{victim} with {state}")
            wrong += [f"run {number}: {flaw}" for flaw in job.flaws()]
        if job.finish() != expected:
            wrong.append(f"run {number}: other models")
        print(f"run {number}: killed {'; '.join(killed)}", flush=True)
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as asked on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        wrong = disturbed_looks(Path(folder), given.runs, given.seed)
    print("\n".join(wrong) or f"{given.runs} runs: the same models every time, nothing half-written under its name")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
