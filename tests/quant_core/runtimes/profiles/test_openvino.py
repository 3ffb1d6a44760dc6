"""What is told of a file for OpenVINO is what its CPU plugin computes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from quant_core.config import LayerWiseConfig
from quant_core.pipeline.check import check_file
from quant_core.pipeline.layer_wise import layer_wise
from quant_core.runtimes.registry import profile_of
from tests.models import MODELS, build, samples
from tests.quant_core.workbench import saved

openvino = pytest.importorskip("openvino")


def test_the_told_score_is_that_of_the_cpu_plugin_and_layers_say_their_precision(tmp_path):
    model = MODELS["chain"]()
    source, data = saved(model, tmp_path), samples(model, 64)
    config = LayerWiseConfig(runtime="openvino", wide="au8w8", time_models=True)
    made = layer_wise(source, tensors={}, calibration=data, config=config, output=tmp_path / "out", workers=1)
    exact = ort.InferenceSession(source).run(None, data)[0]
    found = openvino.Core().compile_model(str(made.folder / "model.onnx"), "CPU")(data)[0]
    measured = np.linalg.norm((found - exact).reshape(64, -1).astype(np.float64), axis=1).mean()
    assert made.manifest.scores.mixed["l2"] == pytest.approx(measured, rel=5e-3)
    assert "openvino" in made.manifest.deployed.processor and made.manifest.latency is not None
    checked = check_file(made.folder / "model.onnx", "openvino", data, source)
    assert checked.deployed["l2"] == pytest.approx(measured, rel=5e-3) and not checked.findings
    assert any(kernel.is_integer for kernel in checked.kernels)


def test_an_input_behind_which_a_node_is_taken_out_keeps_its_name(tmp_path):
    model = build(
        "(float[N,4] x) => (float[N,2] y) { e = Concat<axis=0>(x, none)  y = MatMul(e, w) }",
        {"none": np.zeros((0, 4), np.float32), "w": (4, 2)},
    )
    opened = profile_of("openvino").opens(Path(saved(model, tmp_path)))
    assert opened.inputs == ["x"] and opened({"x": np.ones((3, 4), np.float32)})["y"].shape == (3, 2)


_AT_ONCE = """
import sys, threading
from pathlib import Path
import subprocess
import sys

import numpy as np
from quant_core.runtimes.registry import profile_of
model, ready = profile_of("openvino").opens(Path(sys.argv[1])), threading.Barrier(4)
def first():
    ready.wait()
    model({"x": np.zeros((2, 3, 8, 8), np.float32)})
threads = [threading.Thread(target=first) for _ in range(4)]
for thread in threads: thread.start()
"""


def test_threads_that_run_their_first_inference_at_once_do_not_wait_for_ever(tmp_path):
    """About half of all processes did; each is another try."""
    source = saved(MODELS["chain"](), tmp_path)
    for _ in range(4):
        subprocess.run([sys.executable, "-c", _AT_ONCE, source], check=True, timeout=100)
