"""A model far beyond what protobuf can hold, inspected, calibrated and exported: how much memory that takes.

    python -m tests.benchmarks.large            # 2.5 GiB of weights, in a temporary folder; about four minutes
    python -m tests.benchmarks.large --gib 0.5 --whole

Each step is a process of its own, so that its peak is its own. Exit code 1 if one of them reaches twice the model's size.
`--whole` also runs everything from the model to the output folder, with a target.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

_WIDTH = 4096
_SAMPLES = 4
_GIB = 1 << 30


def large_model(folder: Path, size: int) -> Path:
    """A chain of square matrices with so many bytes of weights in a file beside the model, written one by one."""
    layers = max(size // (4 * _WIDTH * _WIDTH), 2)
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[N,{_WIDTH}] x) => (float[N,{_WIDTH}] y) {{'
        + " ".join(
            f"[fc{i}] m{i} = MatMul({f'r{i - 1}' if i else 'x'}, w{i})  r{i} = Relu(m{i})" for i in range(layers)
        )
        + f"  y = Identity(r{layers - 1}) }}"
    )
    random = np.random.default_rng(0)
    with (folder / "weights.bin").open("wb") as data:
        for index in range(layers):
            weight = random.standard_normal((_WIDTH, _WIDTH), np.float32) * np.float32((2 / _WIDTH) ** 0.5)
            tensor = model.graph.initializer.add(name=f"w{index}", data_type=1, dims=weight.shape, data_location=1)
            for key, value in (("location", "weights.bin"), ("offset", data.tell()), ("length", weight.nbytes)):
                tensor.external_data.add(key=key, value=str(value))
            data.write(weight.data)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def inspected(folder: Path) -> None:
    from quant_core.pipeline.inspection import inspect_model

    found = inspect_model(folder / "model.onnx")
    print(f"    {len(found['layers'])} layers, {found['total']['weight_bytes'] / _GIB:.2f} GiB", flush=True)


def exported(folder: Path) -> None:
    """Prepare, calibrate and export with every second layer narrow."""
    from quant_core.calibration.collect import calibrate
    from quant_core.config import QuantizationConfig
    from quant_core.execution.machine import Machine
    from quant_core.model.layers import layers_from_table
    from quant_core.model.model_file import refer_model
    from quant_core.model.operators import DEFAULT_LAYER_OPS
    from quant_core.model.preparation.prepare import prepare
    from quant_core.precision import Precision, PrecisionPlan
    from quant_core.quantization.export import export, exported_reference
    from quant_core.quantization.recipe import QuantizationRecipe
    from quant_core.storage.data import refer_data

    machine = Machine(folder / "cache")
    layers = prepare(refer_model(folder / "model.onnx"), DEFAULT_LAYER_OPS, machine)
    calibration = calibrate(layers, refer_data(_data(), machine.cache), None, machine)
    recipe = QuantizationRecipe(layers, calibration, QuantizationConfig())
    names = [layer.name for layer in layers_from_table(layers)]
    plan = PrecisionPlan.uniform(names, recipe.config.wide).narrowed(dict.fromkeys(names[::2], Precision.parse("a8w8")))
    reference = exported_reference(export(recipe, plan.as_dict(), machine), machine.cache)
    files = [Path(reference.url), *(Path(reference.url).with_name(name) for name in reference.beside)]
    print("    " + ", ".join(f"{file.name}: {file.stat().st_size / _GIB:.2f} GiB" for file in files), flush=True)


def whole(folder: Path) -> None:
    """Everything, from the model to the output folder."""
    from quant_core import MixedPrecisionConfig, auto_mixed_precision

    config = MixedPrecisionConfig(target={"metric": "sqnr_db", "limit": 21})
    result = auto_mixed_precision(
        folder / "model.onnx", calibration=_data(), evaluation=_data(1), config=config, output=folder / "out"
    )
    print(f"    {result.manifest.narrowed}", flush=True)


def _data(seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((_SAMPLES, _WIDTH), np.float32)}


def _measured(step: Callable[[Path], None], folder: Path, pipe) -> None:
    began = time.perf_counter()
    step(folder)
    pipe.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, time.perf_counter() - began))


def peak_of(step: Callable[[Path], None], folder: Path) -> tuple[int, float]:
    """Peak resident bytes, pages mapped from files included, and seconds of a step in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measured, args=(step, folder, theirs))
    process.start()
    theirs.close()
    found = ours.recv()
    process.join()
    return found


def main() -> None:
    """Measure the steps the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=2.5)
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args()
    size = int(options.gib * _GIB)
    most = 0.0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        large_model(folder, size)
        for step in (inspected, exported, *((whole,) if options.whole else ())):
            peak, seconds = peak_of(step, folder)
            most = max(most, peak / size)
            print(f"{step.__name__:<10} peak {peak / _GIB:.2f} GiB, {peak / size:.2f} x the model, {seconds:.0f} s")
    sys.exit(most >= 2)


if __name__ == "__main__":
    main()
