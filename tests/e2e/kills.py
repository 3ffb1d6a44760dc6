"""Kills the real command at random moments and lets it go on: python -m tests.e2e.kills --runs 30

Every run must end with the model of an undisturbed one, byte for byte, and compute no finished step again. What is
killed, by SIGKILL, is the command, its Prefect server, or both at once. The job is the demo's, or one of your own:
--model M --calibration C --evaluation E --holdout H --max-l2 X.
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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from flows.demo import DEMO_OPTIONS, write_example

VICTIMS = ("command", "server", "both")

_ENOUGH_TO_END = 300
"""Seconds in which a command whose server was killed must have ended by itself."""
_PAUSES = 40
"""The part of an undisturbed run that passes at most between a step and the kill: with more, most kills come too late."""


def demo_job(folder: Path) -> dict[str, str]:
    """The demo's options by name."""
    paths = write_example(folder)
    return paths | {name.replace("_", "-"): str(value) for name, value in DEMO_OPTIONS.items()}


class KillableJob:
    """A job as a command, in folders of its own."""

    def __init__(self, folder: Path, prefect_home: Path, options: Mapping[str, str]) -> None:
        self.out, self.workspace = folder / "out", folder / "workspace"
        flags = [part for name, value in options.items() if name != "model" for part in (f"--{name}", value)]
        places = ["--out", str(self.out), "--workspace", str(self.workspace), "--json"]
        self._command = [sys.executable, "-m", "flows.command_line", "auto", options["model"], *flags, *places]
        self._environment = {**os.environ, "PREFECT_HOME": str(prefect_home)}

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,
        )

    def run_and_kill(self, steps: int, after: float, victim: str = "both") -> None:
        """Start the command, kill something when so many steps are stored and some seconds are over; see it end."""
        process = self._start()
        while process.poll() is None and self.finished_steps < steps:
            time.sleep(0.01)
        with suppress(subprocess.TimeoutExpired):
            process.wait(after)
        servers = _children(process.pid) if victim != "command" else []
        for pid in [*servers, *([process.pid] if victim != "server" else [])]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=_ENOUGH_TO_END)

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
        return len([path for path in (self.workspace / "results").glob("*-*") if not path.name.startswith(".")])

    @property
    def model(self) -> bytes:
        """The quantized model."""
        return (self.out / "model.onnx").read_bytes()


def _children(pid: int) -> list[int]:
    with suppress(FileNotFoundError):  # it has ended
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def disturbed_runs(folder: Path, runs: int, options: Mapping[str, str], seed: int = 0) -> list[str]:
    """Run the job undisturbed, then `runs` times with one to three kills each; what went wrong, a line each."""
    home, chance = folder / "prefect", random.Random(seed)
    whole = KillableJob(folder / "whole", home, options)
    began = time.monotonic()
    steps = whole.finish()["work"]["computed_steps"]  # type: ignore[index]
    longest_pause = (time.monotonic() - began) / _PAUSES
    wrong = []
    for number in range(runs):
        job, killed = KillableJob(folder / f"run{number}", home, options), []
        for _ in range(chance.randint(1, 3)):
            victim = chance.choice(VICTIMS)
            # While it starts, between two steps, within one, or in the end.
            job.run_and_kill(chance.randint(job.finished_steps, steps), chance.uniform(0, longest_pause), victim)
            killed.append(f"{victim} at {job.finished_steps}")
        kept = job.finished_steps
        again = job.finish()["work"]["computed_steps"] - (steps - kept)  # type: ignore[index]
        if again:
            wrong.append(f"run {number}: {again} finished steps were computed again")
        if job.model != whole.model:
            wrong.append(f"run {number}: another model")
        print(f"run {number}: killed {', '.join(killed)} of {steps} steps; {again} computed again", flush=True)
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as asked on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    for name in ("model", "calibration", "evaluation", "holdout", "max-l2"):
        parser.add_argument(f"--{name}")
    given = vars(parser.parse_args(arguments))
    runs, seed = given.pop("runs"), given.pop("seed")
    options = {name.replace("_", "-"): value for name, value in given.items() if value is not None}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        wrong = disturbed_runs(Path(folder), runs, options or demo_job(Path(folder)), seed)
    print("\n".join(wrong) or f"{runs} runs: the same model every time, no finished step computed again")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
