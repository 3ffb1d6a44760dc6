"""What an LSTM takes between pairs and as DynamicQuantizeLSTM, beside the float one, and how far off each is.

    python -m tests.benchmarks.recurrent_forms

The table is in docs/concepts.md. Each LSTM is a model of its own, at au8w8 with one scale a weight; times are processor
time of one thread, the least of all turns.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from quant_core.quantization.runtime_operators.recurrent_operators import with_dynamic_lstms
from tests.models import build
from tests.quant_core.workbench import Feeds, bench

_SHAPES = [(128, 128, 1, 1, 1), (128, 128, 1, 32, 1), (128, 128, 1, 64, 16), (64, 64, 2, 50, 8), (256, 512, 1, 20, 1)]
"""Features, hidden units, directions, steps and samples."""
_TURNS, _TURN_SECONDS = 15, 0.05


def _lstm(features: int, hidden: int, directions: int, steps: int) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    shapes = {"w": (directions, 4 * hidden, features), "u": (directions, 4 * hidden, hidden)}
    weights = {name: (random.standard_normal(shape) / hidden**0.5).astype(np.float32) for name, shape in shapes.items()}
    direction = "bidirectional" if directions == 2 else "forward"
    return build(
        f"""(float[{steps},N,{features}] x) => (float[{steps},{directions},N,{hidden}] y) {{
            [lstm] y = LSTM<hidden_size={hidden}, direction="{direction}">(x, w, u, bias)
        }}""",
        {**weights, "bias": (random.standard_normal((directions, 8 * hidden)) / 10).astype(np.float32)},
    )


def _forms(model: onnx.ModelProto, feeds: Feeds) -> dict[str, onnx.ModelProto]:
    """The model as it is, and as it is written in each form."""
    with tempfile.TemporaryDirectory() as folder:
        made = bench(model, Path(folder), feeds, wide="float32", per_channel=False)
        pairs = made.exported(made.plan("lstm", precision="au8w8"))
    signed, unsigned = (with_dynamic_lstms(pairs, keeps) for keeps in (False, True))
    return {"float": model, "pairs": pairs, "dynamic": signed, "dynamic, uint8 where sums saturate": unsigned}


def _seconds(sessions: Mapping[str, ort.InferenceSession], feeds: Feeds) -> dict[str, float]:
    """The least processor time of a call of each, taken turn about."""
    found = dict.fromkeys(sessions, float("inf"))
    for _ in range(_TURNS):
        for name, session in sessions.items():
            calls, began = 0, time.process_time()
            while time.process_time() - began < _TURN_SECONDS / len(sessions):
                session.run(None, feeds)
                calls += 1
            found[name] = min(found[name], (time.process_time() - began) / calls)
    return found


def _opened(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _decibels(exact: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10(np.square(exact).sum() / np.square(exact - found).sum()))


def main() -> None:
    """Print a line for each LSTM."""
    for features, hidden, directions, steps, samples in _SHAPES:
        random = np.random.default_rng(1)
        feeds: Feeds = {"x": random.standard_normal((steps, samples, features)).astype(np.float32)}
        sessions = {
            name: _opened(one) for name, one in _forms(_lstm(features, hidden, directions, steps), feeds).items()
        }
        exact, taken = sessions["float"].run(None, feeds)[0], _seconds(sessions, feeds)
        print(f"{features}, {hidden}, {directions} direction(s), {steps} x {samples}")
        for name, session in sessions.items():
            off = "" if name == "float" else f", {_decibels(exact, session.run(None, feeds)[0]):.1f} dB"
            print(
                f"    {name}: {taken[name] * 1e6:.0f} us, {taken[name] / taken['float']:.2f} of float{off}", flush=True
            )


if __name__ == "__main__":
    main()
