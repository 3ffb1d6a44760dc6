from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from tests.models import MODELS, build, samples
from tests.quant_core.model.test_half_precision import KINDS, halved


def quantized(model: onnx.ModelProto, feeds, folder, **options) -> tuple[float, onnx.ModelProto]:
    """The distance of the shipped file from the float model, and the file."""
    folder.mkdir()
    onnx.save(model, folder / "float.onnx")
    config = config_from(target={"metric": "l2", "limit": 1e9}, **options)
    auto_mixed_precision(
        folder / "float.onnx", calibration=feeds, evaluation=feeds, config=config, output=folder / "out", workers=1
    )
    told = json.loads((folder / "out/manifest.json").read_text())
    return told["scores"]["mixed"]["l2"], onnx.load(folder / "out/model.onnx")


def rounded(model: onnx.ModelProto, kind: int) -> onnx.ModelProto:
    """The model in float32 with weights that a narrower type holds."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(tensor).astype(dtype).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return model


def fed(name: str, kind: int, count: int = 16):
    """Samples that a narrower type holds."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    return {
        key: array.astype(dtype).astype(np.float32) if array.dtype == np.float32 else array
        for key, array in samples(MODELS[name](), count).items()
    }


def types(values) -> dict[str, int]:
    return {value.name: value.type.tensor_type.elem_type for value in values}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["chain", "residual", "transformer", "if-body", "several-inputs-and-outputs"])
def test_a_model_quantizes_to_what_it_does_in_float32_and_keeps_its_types(tmp_path, name, kind):
    model, feeds = halved(MODELS[name](), KINDS[kind]), fed(name, KINDS[kind])
    exact, _ = quantized(rounded(MODELS[name](), KINDS[kind]), feeds, tmp_path / "float32")
    told, shipped = quantized(model, feeds, tmp_path / "half")
    coarse = 2e-3 if kind == "float16" else 2e-2  # what rounding the outputs adds
    assert told == pytest.approx(exact, rel=0.05, abs=coarse)
    assert types(shipped.graph.input) == types(model.graph.input)
    assert types(shipped.graph.output) == types(model.graph.output)
    onnx.checker.check_model(shipped, full_check=True)


def test_layers_left_in_float_compute_and_are_stored_in_float16(tmp_path):
    model, feeds = halved(MODELS["chain"](), TensorProto.FLOAT16), fed("chain", TensorProto.FLOAT16)
    _, shipped = quantized(model, feeds, tmp_path / "half", exclude=["c1", "c2"], wide="float32",
                           narrow=["a8w8"])  # fmt: skip
    kinds = {tensor.name: tensor.data_type for tensor in shipped.graph.initializer}
    first = next(node for node in shipped.graph.node if node.name == "c1")
    assert first.input[0] == "x"
    assert kinds[first.input[1]] == TensorProto.FLOAT16


def test_a_resize_in_float16_keeps_its_scales_in_float32(tmp_path):
    model = build(
        """(float[N,3,4,4] x) => (float[N,2,8,8] y) {
            u = Resize(x, , scales)  s = Sin(u)  [c] y = Conv(s, w)
        }""",
        {"scales": np.array([1, 1, 2, 2], np.float32), "w": (2, 3, 1, 1)},
    )
    feeds = {"x": np.random.default_rng(0).standard_normal((8, 3, 4, 4)).astype(np.float16)}
    told, shipped = quantized(halved(model, TensorProto.FLOAT16), feeds, tmp_path / "half", exclude=["*esize*"])
    kinds = {tensor.name: tensor.data_type for tensor in shipped.graph.initializer}
    resize = next(node for node in shipped.graph.node if node.op_type == "Resize")
    assert kinds[resize.input[2]] == TensorProto.FLOAT
    assert resize.input[0] == "x"
    assert told < 1


@pytest.mark.parametrize("kind", KINDS)
def test_random_samples_are_made_for_its_inputs(tmp_path, kind):
    onnx.save(halved(MODELS["chain"](), KINDS[kind]), tmp_path / "float.onnx")
    config = config_from(target={"metric": "l2", "limit": 1e9}, random_samples=8)
    made = auto_mixed_precision(
        tmp_path / "float.onnx", calibration="random", evaluation="random", config=config, output=tmp_path / "out"
    )
    assert made.manifest.scores.mixed["l2"] > 0
