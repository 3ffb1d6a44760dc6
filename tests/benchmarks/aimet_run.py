"""Qualcomm AIMET's automatic mixed precision on one model; runs in AIMET's own environment (see peers.py).

usage: aimet_run.py MODEL DATA.npz OUT.onnx MAX_TOP1_DROP BATCH
"""

import sys
import tempfile

import numpy as np
import onnx
from aimet_common.defs import CallbackFunc, QuantizationDataType
from aimet_onnx.mixed_precision import choose_mixed_precision
from aimet_onnx.quantsim import QuantizationSimModel

INT = QuantizationDataType.int
WIDE, NARROW = ((16, INT), (8, INT)), ((8, INT), (8, INT))
"""Activations and weights."""


if __name__ == "__main__":
    model, data, out, drop, batch = sys.argv[1:]
    arrays = dict(np.load(data))
    labels = arrays.pop("labels")
    feeds = [
        {name: array[start : start + int(batch)] for name, array in arrays.items()}
        for start in range(0, len(labels), int(batch))
    ]

    def forward(session, _=None):
        return np.concatenate([session.run(None, feed)[0] for feed in feeds])

    def top1(session, _=None):
        return float((forward(session).argmax(1) == labels).mean())

    sim = QuantizationSimModel(
        onnx.load(model), default_activation_bw=16, default_param_bw=8, providers=["CPUExecutionProvider"]
    )
    sim.compute_encodings(forward)
    score, run = CallbackFunc(top1, None), CallbackFunc(forward, None)
    with tempfile.TemporaryDirectory() as results:
        choose_mixed_precision(sim, [WIDE, NARROW], score, score, float(drop), results, True, run)
    onnx.save(sim.to_onnx_qdq(prequantize_constants=True), out)
