"""A model in float16 or bfloat16 beside the same in float32: both quantized, the distance of each from its float model.

    python -m tests.e2e.float16_model --model mobilenetv2.onnx --calibration calibration.npz --evaluation evaluation.npz

All layers are wide, then all narrow. Exit code 1 where float16 is more than 1% from float32 at the wide precision. At the
narrow one, codes next to a border fall to either side once weights are rounded to float16, so that the two differ by more.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

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
            scores[kind] = _distances(path, given.calibration, given.evaluation)
            wide, narrow = scores[kind]
            print(f"{kind}: L2 {wide:.5f} wide, {narrow:.5f} narrow", flush=True)
    return int(abs(scores["float16"][0] / scores["float32"][0] - 1) > 0.01)


def _distances(model: Path, calibration: Path, evaluation: Path) -> tuple[float, float]:
    config = config_from(target={"metric": "l2", "limit": 1e9}, samples="all")
    outcome = auto_mixed_precision(
        model, calibration=calibration, evaluation=evaluation, config=config, output=model.with_suffix("")
    )
    scores = outcome.manifest.scores
    return scores.wide["l2"], scores.mixed["l2"]


if __name__ == "__main__":
    sys.exit(main())
