"""A folder of small models watched: what one more model costs beside its own stages.

    python -m tests.benchmarks.many_models                  # 50 models, one scan; two minutes
    python -m tests.benchmarks.many_models --models 10

While one model's run talks to Prefect and writes its report, steps of the next one are computed. Both are slower for that,
and so are the stages in their manifests: a few models are therefore watched one at a time as well, with nothing beside
them. Exit code 1 if a model takes more than 1.3 times what its stages take, by the manifests or, where that is less, alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx

_MOST = 1.3
_ALONE = 10
"""Models that are watched one at a time as well."""
_OPTIONS = "calibration: data/calibration.npz\nevaluation: data/evaluation.npz\nmax_l2: 0.6\n"


def write_folder(folder: Path, models: int) -> None:
    """Write the example's data and so many variants of its model, whose weights differ a little."""
    from flows.demo import write_example

    folder.mkdir()
    original = onnx.load(write_example(folder)["model"])
    Path(folder / "data" / "digits_cnn.onnx").unlink()
    (folder / "narrowcast.yaml").write_text(_OPTIONS)
    random = np.random.default_rng(0)
    for number in range(models):
        model = onnx.ModelProto()
        model.CopyFrom(original)
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                array = onnx.numpy_helper.to_array(tensor)
                changed = array * (1 + 1e-3 * random.standard_normal(array.shape)).astype(np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(changed, tensor.name))
        onnx.save(model, folder / f"model{number:03d}.onnx")


def main() -> int:
    """Scan the folder once, and print what a model takes and what its stages take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    from flows.command_line import set_up_process

    set_up_process()  # as for `narrowcast watch`
    from flows.temporary_server import prefect_server
    from flows.watch_models import watch_models

    with tempfile.TemporaryDirectory() as name, prefect_server() as server, server.serving():
        folder = Path(name)
        write_folder(folder / "models", options.models)

        def watched(to: str, model: str | None = None) -> float:
            """Return the seconds of a scan."""
            began = time.perf_counter()
            places = {"output": str(folder / to), "workspace": str(folder / f"{to}-workspace")}
            watch_models(str(folder / "models"), model=model, workers=options.workers, settle_seconds=0.0, **places)
            return time.perf_counter() - began

        cpu = time.process_time()
        took = watched("out")
        cpu = time.process_time() - cpu
        found = _stages_of(folder / "out")
        if len(found) != options.models:
            sys.exit(f"{len(found)} of {options.models} models have a result")
        again = watched("out")
        for number in range(min(_ALONE, options.models)):
            watched("alone", f"model{number:03d}.onnx")
        alone = _mean(_stages_of(folder / "alone"))
    stages, each = _mean(found), took / len(found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(found)} models in {took:.1f} s: {each:.2f} s each")
    print(f"    {stages:.2f} s of them in stages: {each / stages:.2f} times")
    print(f"    {alone:.2f} s of stages with no other model beside it: {each / alone:.2f} times")
    print(
        f"{cpu / len(found):.2f} s of processor time each; peak {peak:.0f} MiB; a scan that finds all done {again:.1f} s"
    )
    for stage in found[0]:
        print(f"    {stage}: {sum(seconds.get(stage, 0.0) for seconds in found) / len(found):.3f} s")
    return int(each > _MOST * min(stages, alone))


def _stages_of(folder: Path) -> list[dict[str, float]]:
    """Return the seconds of the stages of each finished model."""
    return [json.loads(file.read_text())["seconds"] for file in sorted(folder.glob("*/*/manifest.json"))]


def _mean(models: list[dict[str, float]]) -> float:
    """Return how many seconds the stages of a model take together."""
    return sum(sum(seconds.values()) for seconds in models) / len(models)


if __name__ == "__main__":
    sys.exit(main())
