"""A model in float16 or bfloat16 beside the same in float32: both quantized, the distance of each from its float model.

    python -m tests.e2e.float16_model --model mobilenetv2.onnx --calibration calibration.npz --evaluation evaluation.npz

All layers are wide, then all narrow. Rounding weights to float16 moves those next to a border to another code, which may
change the distance by some percent for better or worse. So each type stands beside the float32 model of the same, rounded
weights, too: exit code 1 where float16 is more than 1% from that at the wide precision.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from tests.quant_core.model.test_half_precision import KINDS, halved


def main() -> int:
    """Print a line a type."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("model", "calibration", "evaluation"):
        parser.add_argument(f"--{name}", type=Path, required=True)
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
                onnx.save(_with_rounded_weights(model, KINDS[kind]), path.with_stem(f"{kind}-weights"))
            for name, file in models.items():
                wide, narrow = scores[name] = _distances(file, given.calibration, given.evaluation)
                print(f"{name}: L2 {wide:.5f} wide, {narrow:.5f} narrow", flush=True)
    return int(abs(scores["float16"][0] / scores["float32 with weights of float16"][0] - 1) > 0.01)


def _with_rounded_weights(model: onnx.ModelProto, kind: int) -> onnx.ModelProto:
    """Return a model in float32 whose constants are rounded to a narrower type."""
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    narrow = onnx.helper.tensor_dtype_to_np_dtype(kind)
    for tensor in rounded.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(tensor).astype(narrow).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return rounded


def _distances(model: Path, calibration: Path, evaluation: Path) -> tuple[float, float]:
    config = config_from(target={"metric": "l2", "limit": 1e9}, samples="all")
    outcome = auto_mixed_precision(
        model, calibration=calibration, evaluation=evaluation, config=config, output=model.with_suffix("")
    )
    scores = outcome.manifest.scores
    return scores.wide["l2"], scores.mixed["l2"]


if __name__ == "__main__":
    sys.exit(main())
