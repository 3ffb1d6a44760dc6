"""Does the simulation say what the file says? Every plan a run evaluates is written, and run by ONNX Runtime alone.

    python -m tests.benchmarks.agreement [--built NAME ...]           # the networks of `networks`
    python -m tests.benchmarks.agreement --zoo [NAME ...]             # the nine image networks, 8 images each
    python -m tests.benchmarks.agreement --model M.onnx --calibration C.npz --evaluation E.npz

For each model, `narrowcast auto` runs twice: with a limit that everything meets, which shows what all wide and all
narrow lose, and with an L2 limit between the two. Then each plan of both runs is exported, and its L2 against the
original float model is computed here, with numpy, from what plain sessions give (the file with all optimisations
off, the float model with ONNX Runtime's defaults). Exit code 1 where one is off by more than 0.1%.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow.ipc

from quant_core.calibration.collect import calibrate
from quant_core.config import QuantizationConfig
from quant_core.execution.machine import Machine
from quant_core.model.model_file import refer_model
from quant_core.model.operators import DEFAULT_LAYER_OPS
from quant_core.model.preparation.prepare import prepare
from quant_core.quantization.export import export, exported_reference
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.scoring.evaluation import evaluate_plan
from quant_core.scoring.float_outputs import float_outputs
from quant_core.scoring.metrics import scores_of
from quant_core.scoring.sampling import Samples
from quant_core.storage.data import refer_data
from tests.benchmarks import zoo
from tests.benchmarks.networks import NETWORKS
from tests.benchmarks.processes import measured
from tests.models import samples

LARGEST = 1e-3
"""How far the L2 of a plan may be off, as a share of it."""

_IMAGES = 8


@dataclass(frozen=True)
class Case:
    """A model with its data."""

    name: str
    model: Path
    calibration: Path
    evaluation: Path


@dataclass(frozen=True)
class Agreement:
    """How the plans of a model fare."""

    case: Case
    layers: int
    narrowed: int
    plans: int
    l2: tuple[float, float]
    """Of the all-wide and of the mixed model."""
    worst: float
    """The largest difference between simulation and file, as a share of the L2."""
    shipped: float
    """The same for the L2 that the manifest states of the shipped file."""
    seconds: float


def agreement(case: Case, folder: Path, *options: str) -> Agreement:
    """Run a case, and compare every plan it evaluates."""
    everything = _run(case, folder / "all", folder, "--max-l2", "1e9", *options)
    wide, narrow = everything.scores("wide"), everything.scores("mixed")
    limit = max((wide * narrow) ** 0.5, 1.01 * wide)  # narrow may lose no more than wide
    mixed = _run(case, folder / "mixed", folder, "--max-l2", repr(limit), *options)
    plans = {row["plan"]: json.loads(row["precisions"]) for run in (everything, mixed) for row in run.search}
    files = _Files(case, folder / "cache", QuantizationConfig(**mixed.quantization))
    differences = [abs(found / simulated - 1) for simulated, found in map(files.both, plans.values())]
    stated = mixed.scores("mixed")
    return Agreement(
        case=case,
        layers=mixed.manifest["narrowed"]["of"],
        narrowed=mixed.manifest["narrowed"]["layers"],
        plans=len(plans),
        l2=(wide, stated),
        worst=max(differences),
        shipped=abs(files.distance(folder / "mixed" / "model.onnx") / stated - 1),
        seconds=everything.seconds + mixed.seconds,
    )


@dataclass(frozen=True)
class _Run:
    manifest: dict
    search: list[dict]
    seconds: float

    def scores(self, part: str) -> float:
        return self.manifest["scores"][part]["l2"]

    @property
    def quantization(self) -> dict:
        return {
            name: value for name, value in self.manifest["config"].items() if name in QuantizationConfig.model_fields
        }


def _run(case: Case, out: Path, folder: Path, *options: str) -> _Run:
    command = ["narrowcast", "auto", str(case.model), "--calibration", str(case.calibration)]
    command += ["--evaluation", str(case.evaluation), "--out", str(out), "--workspace", str(folder / "workspace")]
    took = measured([*command, *options], PREFECT_HOME=str(folder / "prefect")).seconds
    manifest = json.loads((out / "manifest.json").read_text())
    return _Run(manifest, pyarrow.ipc.open_file(out / "search.arrow").read_all().to_pylist(), took)


class _Files:
    """Plans as files, measured with nothing but ONNX Runtime and numpy; and in simulation."""

    def __init__(self, case: Case, cache: Path, config: QuantizationConfig) -> None:
        self.machine = Machine(cache, 2)
        data, model = refer_data(case.evaluation, cache), refer_model(case.model)
        layers = prepare(model, DEFAULT_LAYER_OPS, self.machine)
        calibration = calibrate(layers, refer_data(case.calibration, cache), None, self.machine)
        self.recipe = QuantizationRecipe(layers, calibration, config)
        self.baseline = float_outputs(model, layers, data, 0, None, None, self.machine)
        self.samples = Samples(data, 0, self.baseline.num_rows)
        with np.load(case.evaluation) as archive:
            self.feeds = {name: archive[name] for name in archive.files if name != "labels"}
        self.reference = self._outputs(case.model, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)

    def both(self, plan: dict[str, str]) -> tuple[float, float]:
        """The L2 of a plan in simulation, and from its file."""
        scores = evaluate_plan(
            recipe=self.recipe,
            baseline=self.baseline,
            samples=self.samples,
            plan=plan,
            function=None,
            batch_size=None,
            machine=self.machine,
        )
        exported = export(self.recipe, plan, self.machine)
        return scores_of(scores)["l2"], self.distance(Path(exported_reference(exported, self.machine.cache).url))

    def distance(self, file: Path) -> float:
        """The mean L2 of a file's first output."""
        found = self._outputs(file, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
        return float(np.linalg.norm((found - self.reference).reshape(len(found), -1), axis=1).mean())

    def _outputs(self, file: Path, level: ort.GraphOptimizationLevel) -> np.ndarray:
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        options.log_severity_level = 4
        session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]
        fixed = session.get_inputs()[0].shape[0]
        step = fixed if isinstance(fixed, int) else 50
        count = len(self.feeds[names[0]])
        parts = [
            session.run(None, {name: self.feeds[name][first : first + step] for name in names})[0]
            for first in range(0, count, step)
        ]
        return np.concatenate(parts).astype(np.float64)


def built(name: str, folder: Path) -> Case:
    """A network of `networks` with random data."""
    model = NETWORKS[name]()
    onnx.save(model, folder / "model.onnx")
    for part, seed in (("calibration", 0), ("evaluation", 1)):
        np.savez(folder / f"{part}.npz", **samples(model, 64, seed))
    return Case(name, folder / "model.onnx", folder / "calibration.npz", folder / "evaluation.npz")


def of_the_zoo(name: str, folder: Path) -> Case:
    """An image network with eight images."""
    model, images = zoo.write(name, folder, _IMAGES)
    return Case(name, model, images, images)


def show(found: Agreement) -> None:
    """One row of the table."""
    print(
        f"| {found.case.name} | {found.layers} | {found.narrowed} | {found.plans} | {found.l2[0]:.4g} | "
        f"{found.l2[1]:.4g} | {100 * found.worst:.5f}% | {100 * found.shipped:.5f}% | {found.seconds:.0f} |",
        flush=True,
    )


def main() -> None:
    """Compare what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--built", nargs="*", metavar="NAME")
    parser.add_argument("--zoo", nargs="*", metavar="NAME")
    for name in ("model", "calibration", "evaluation"):
        parser.add_argument(f"--{name}", type=Path)
    chosen, options = parser.parse_known_args()
    makers = dict.fromkeys(chosen.built or NETWORKS, built)
    if chosen.zoo is not None:
        makers = dict.fromkeys(chosen.zoo or zoo.NAMES, of_the_zoo)
    elif chosen.model is not None:
        case = Case(chosen.model.stem, chosen.model, chosen.calibration, chosen.evaluation)
        makers = {chosen.model.stem: lambda name, folder: case}
    print("| model | layers | narrowed | plans | L2 wide | L2 mixed | simulation - file, worst | stated - file | s |")
    print("| --- " * 9 + "|")
    worst = 0.0
    for name, make in makers.items():
        with tempfile.TemporaryDirectory() as temporary:
            found = agreement(make(name, Path(temporary)), Path(temporary), *options)
        show(found)
        worst = max(worst, found.worst, found.shipped)
    sys.exit(worst > LARGEST)


if __name__ == "__main__":
    main()
