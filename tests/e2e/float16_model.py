"""A model in float16 or bfloat16 beside the same in float32: both quantized, the distance of each from its float model.

    python -m tests.e2e.float16_model --model mobilenetv2.onnx --calibration calibration.npz --evaluation evaluation.npz

All layers are wide, then all narrow. Rounding weights to float16 moves those next to a border to another code. That alone
changes the distance by some percent for better or worse, as moving weights at random by as much does (`--moved 3` such
models stand beside it; MobileNetV2 per channel: -10% to +7% at a16w8, -2% to +4% at a8w8). So each type stands beside the
float32 model of the same, rounded weights, too: exit code 1 where float16 is more than 1% from that at the wide precision.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from tests.quant_core.model.test_half_precision import KINDS, halved

_HALF_A_UNIT = 2.0**-12
"""Of float16's last place, as a share of a value."""

Array = NDArray[np.generic]


def main() -> int:
    """Print a line a type."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("model", "calibration", "evaluation"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--moved", type=int, default=0, help="float32 models with weights moved at random")
    given = parser.parse_args()
    scores = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("float32", "float16", "bfloat16"):
            model = onnx.load(given.model)
            path = Path(folder, f"{kind}.onnx")
            onnx.save(halved(model, KINDS[kind]) if kind in KINDS else model, path)
            models = {kind: path}
            if kind in KINDS:
                models[f"float32 with weights of {kind}"] = path.with_stem(f"{kind}-weights")
                onnx.save(_with_weights(model, _rounded_to(KINDS[kind])), path.with_stem(f"{kind}-weights"))
            for seed in range(given.moved if kind == "float32" else 0):
                models[f"float32 with weights moved, {seed}"] = path.with_stem(f"moved-{seed}")
                onnx.save(_with_weights(model, _moved(seed)), path.with_stem(f"moved-{seed}"))
            for name, file in models.items():
                wide, narrow = scores[name] = _distances(file, given.calibration, given.evaluation)
                print(f"{name}: L2 {wide:.5f} wide, {narrow:.5f} narrow", flush=True)
    return int(abs(scores["float16"][0] / scores["float32 with weights of float16"][0] - 1) > 0.01)


def _with_weights(model: onnx.ModelProto, changed: Callable[[Array], Array]) -> onnx.ModelProto:
    """Return a model in float32 with other constants."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    for tensor in found.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = changed(onnx.numpy_helper.to_array(tensor)).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return found


def _rounded_to(kind: int) -> Callable[[Array], Array]:
    narrow = onnx.helper.tensor_dtype_to_np_dtype(kind)
    return lambda array: array.astype(narrow)


def _moved(seed: int) -> Callable[[Array], Array]:
    """Return what moves values at random by no more than rounding them to float16 does."""
    rng = np.random.default_rng(seed)
    return lambda array: array * (1 + rng.uniform(-_HALF_A_UNIT, _HALF_A_UNIT, array.shape))


def _distances(model: Path, calibration: Path, evaluation: Path) -> tuple[float, float]:
    config = config_from(target={"metric": "l2", "limit": 1e9}, samples="all")
    outcome = auto_mixed_precision(
        model, calibration=calibration, evaluation=evaluation, config=config, output=model.with_suffix("")
    )
    scores = outcome.manifest.scores
    return scores.wide["l2"], scores.mixed["l2"]


if __name__ == "__main__":
    sys.exit(main())
