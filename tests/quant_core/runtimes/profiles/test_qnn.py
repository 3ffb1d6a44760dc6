"""What is told of a file for QNN is what the vendor's library computes, one sample at a time."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from quant_core.config import LayerWiseConfig
from quant_core.pipeline.check import check_file
from quant_core.pipeline.layer_wise import layer_wise
from quant_core.runtimes.registry import profile_of
from tests.models import MODELS, build, samples
from tests.quant_core.workbench import saved

qnn = pytest.importorskip("onnxruntime_qnn")


def written(tmp_path, wide, model=None, data=None, runtime="qnn", **options):
    """The float model's file, its data, and the result of a run."""
    model = MODELS["chain"]() if model is None else model
    source, data = saved(model, tmp_path), samples(model, 32) if data is None else data
    config = LayerWiseConfig(runtime=runtime, wide=wide, **options)
    return source, data, layer_wise(source, tensors={}, calibration=data, config=config, output=tmp_path / "out")


def in_library(file, data):
    """Outputs as an application has them that sets what the metadata say."""
    opened = profile_of("qnn").opens(file)  # it registers the provider
    del opened
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_free_dimension_override_by_name("N", 1)
    devices = [device for device in ort.get_ep_devices() if device.ep_name == "QNN"]
    entries = {"backend_path": qnn.get_qnn_htp_path(), **profile_of("qnn").session_entries}
    options.add_provider_for_devices(devices, entries)
    session = ort.InferenceSession(file, options)
    count = len(next(iter(data.values())))
    return np.concatenate(
        [session.run(None, {name: array[at : at + 1] for name, array in data.items()})[0] for at in range(count)]
    )


@pytest.mark.parametrize("wide", ["au16w8", "au8w8", "au8w4"])
def test_the_told_score_is_that_of_the_vendors_library(tmp_path, wide):
    source, data, made = written(tmp_path, wide)
    exact = ort.InferenceSession(source).run(None, data)[0]
    found = in_library(made.folder / "model.onnx", data)
    measured = np.linalg.norm((found - exact).reshape(len(exact), -1).astype(np.float64), axis=1).mean()
    assert made.manifest.scores.mixed["l2"] == pytest.approx(measured, rel=5e-3)
    assert "onnxruntime-qnn" in made.manifest.deployed.processor
    assert made.manifest.deployed.session == {"soc_model": "60"} and made.manifest.deployed.assumes
    assert {"encodings.json", "tensor_overrides.json"} <= {file.name for file in made.folder.iterdir()}
    checked = check_file(made.folder / "model.onnx", "qnn", data, source)
    assert checked.deployed["l2"] == pytest.approx(measured, rel=5e-3) and not checked.findings
    assert {(kernel.runs_as, kernel.is_integer) for kernel in checked.kernels} == {
        ("QNN", True)
    } and not checked.saturates_here


def test_what_falls_back_to_the_cpu_is_listed(tmp_path):
    source, data, made = written(tmp_path, "a8w8", runtime="reference")
    checked = check_file(made.folder / "model.onnx", "qnn", data, source)
    left = [kernel for kernel in checked.kernels if kernel.runs_as == "CPU"]
    assert left and all(kernel.why == "it is left to the CPU" and not kernel.is_integer for kernel in left)
    assert any(kernel.op_type == "DequantizeLinear" and "bias" in kernel.layer for kernel in left)
    kernels = {kernel.layer: kernel for kernel in checked.kernels}
    assert kernels["w2/a8w8/DequantizeLinear"].runs_as == "CPU" and kernels["c2"].runs_as == "QNN"
    assert not kernels["c2"].is_integer and "dequantized on the CPU" in kernels["c2"].why
    assert "unsigned-activations" in {finding.rule for finding in checked.findings}


def test_a_file_that_stops_the_session_is_told_as_such_with_its_rule(tmp_path):
    source, data, made = written(tmp_path, "a16w8", runtime="reference")
    checked = check_file(made.folder / "model.onnx", "qnn", data, source)
    assert "QNN does not run it" in checked.refusal and checked.differs and not checked.kernels
    assert ("no-signed-16-bit-pools", "refused") in {(one.rule, one.consequence) for one in checked.findings}


def test_a_batch_without_a_symbol_and_a_fixed_one_are_run(tmp_path):
    body = "(float[{batch},3,8,8] x) => (float[{batch},4,6,6] y) {{ [c] y = Conv(x, w) }}"
    for folder, batch in (("open", "?"), ("fixed", "2")):
        model = build(body.format(batch=batch), {"w": (4, 3, 3, 3)}, opset=21, ir_version=10)
        data = {"x": np.random.default_rng(0).standard_normal((6, 3, 8, 8)).astype(np.float32)}
        (tmp_path / folder).mkdir()
        _, _, made = written(tmp_path / folder, "au8w8", model, data)
        assert made.manifest.scores.mixed["l2"] == pytest.approx(made.manifest.deployed.reference["l2"], rel=0.05)
