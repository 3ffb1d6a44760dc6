"""Kills the real command at random moments and lets it go on: python -m tests.e2e.kills --runs 30

Every run must end with the model of an undisturbed one, byte for byte, and compute no finished step again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from flows.demo import DEMO_OPTIONS, write_example


class KillableJob:
    """The demo's job as a command, in folders of its own."""

    def __init__(self, folder: Path, prefect_home: Path) -> None:
        self.out, self.workspace = folder / "out", folder / "workspace"
        paths = write_example(folder)
        flags = [part for name in ("calibration", "evaluation", "holdout") for part in (f"--{name}", paths[name])]
        targets = [part for name, value in DEMO_OPTIONS.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        places = ["--out", str(self.out), "--workspace", str(self.workspace), "--json"]
        self._command = [sys.executable, "-m", "flows.command_line", "auto", paths["model"], *flags, *targets, *places]
        self._environment = {**os.environ, "PREFECT_HOME": str(prefect_home)}

    def _start(self) -> subprocess.Popen[str]:
        # A session of its own, so that the kill also takes the temporary server, as a machine's end would.
        return subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,
        )

    def run_and_kill(self, after: float) -> None:
        """Start the command, and kill all of it after that many seconds unless it has ended."""
        process = self._start()
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def finish(self) -> dict[str, object]:
        """Run the command to its end; its manifest."""
        process = self._start()
        output, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(f"exit code {process.returncode}: {errors[-2000:]}")
        return dict(json.loads(output))

    @property
    def finished_steps(self) -> int:
        """Steps whose result is in the store."""
        return len(list((self.workspace / "results").glob("*-*"))) if self.workspace.exists() else 0

    @property
    def model(self) -> bytes:
        """The quantized model."""
        return (self.out / "model.onnx").read_bytes()


def disturbed_runs(folder: Path, runs: int, seed: int = 0) -> list[str]:
    """Run the job undisturbed, then `runs` times with one to three kills each; what went wrong, a line each."""
    home = folder / "prefect"
    whole = KillableJob(folder / "whole", home)
    began = time.perf_counter()
    steps = whole.finish()["work"]["computed_steps"]  # type: ignore[index]
    began, _ = time.perf_counter(), whole.finish()
    length, chance = time.perf_counter() - began, random.Random(seed)
    wrong = []
    for number in range(runs):
        job = KillableJob(folder / f"run{number}", home)
        for _ in range(chance.randint(1, 3)):
            job.run_and_kill(chance.uniform(0.4, 1.1) * length)
        kept = job.finished_steps
        work = job.finish()["work"]
        again = work["computed_steps"] - (steps - kept)  # type: ignore[index]
        if again > 0:  # fewer, when a kill came between a whole result and its record
            wrong.append(f"run {number}: {again} finished steps were computed again")
        if job.model != whole.model:
            wrong.append(f"run {number}: another model")
        print(f"run {number}: {kept} of {steps} steps were there after the kills", flush=True)
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as asked on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        wrong = disturbed_runs(Path(folder), options.runs, options.seed)
    print("\n".join(wrong) or f"{options.runs} runs: the same model every time, no finished step computed again")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
