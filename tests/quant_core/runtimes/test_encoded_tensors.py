"""What is written beside a model for other tools says how its tensors are held."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from quant_core.results.beside_model import write_beside
from quant_core.runtimes.encoded_tensors import encoded_tensors
from quant_core.runtimes.tensor_overrides import read_tensor_overrides, tensor_overrides
from quant_core.runtimes.written_model import WrittenModel

FILES = ("encodings.json", "tensor_overrides.json")


def names_of(graph):
    return {*graph.inputs, *graph.initializers, *(name for node in graph.nodes for name in node.output)}


@pytest.fixture
def beside(workbench, tmp_path):
    """Writes the files of a plan; the workbench, the written model and what the files hold."""

    def made(model="chain", plan=0, **options):
        bench = workbench(model, **{"wide": "au16w8", "runtime": "qnn", **options})
        written = bench.exported(bench.plans("au8w8")[plan])
        onnx.save(written, tmp_path / "model.onnx")
        write_beside(tmp_path, "qnn", tmp_path / "model.onnx", bench.layer_table, bench.machine.cache)
        return bench, written, *(json.loads((tmp_path / name).read_text()) for name in FILES)

    return made


def constants(model):
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_encodings_have_the_scales_and_offsets_of_the_file(beside):
    _, written, encodings, _ = beside()
    assert encodings["version"] == "1.0.0"
    stored = constants(written)
    activations = {one["name"]: one for one in encodings["activation_encodings"]}
    assert {"x", "a1", "y"} <= activations.keys() and len(activations) == len(encodings["activation_encodings"])
    entry = activations["x"]
    assert (entry["bw"], entry["dtype"], entry["enc_type"]) == (16, "INT", "PER_TENSOR")
    assert entry["scale"] == [float(stored["x/au16/scale"])] and entry["offset"] == [-int(stored["x/au16/zero_point"])]
    weights = {one["name"]: one for one in encodings["param_encodings"]}
    assert weights.keys() == {"w1", "w2", "w3", "w4"}  # biases follow from the others
    assert (weights["w1"]["bw"], weights["w1"]["enc_type"], weights["w1"]["is_sym"]) == (8, "PER_CHANNEL", True)
    assert weights["w1"]["scale"] == stored["w1/au16w8/scale"].tolist() and weights["w1"]["offset"] == [-128.0] * 4


def test_encodings_give_the_values_that_the_file_gives(beside):
    _, written, encodings, _ = beside(wide="au8w4")
    entry = next(one for one in encodings["param_encodings"] if one["name"] == "w4")
    codes = constants(written)["w4/au8w4/codes"].astype(np.int64)
    counted_from_0 = codes + 8
    scale, offset = (np.array(entry[key])[:, None] for key in ("scale", "offset"))
    assert entry["bw"] == 4
    np.testing.assert_array_equal((counted_from_0 + offset) * scale, codes * scale)


class Reader(CalibrationDataReader):
    def __init__(self, feeds):
        self.left = iter([feeds])

    def get_next(self):
        return next(self.left, None)


def test_onnxruntime_quantizes_by_the_overrides(beside, tmp_path):
    bench, written, _, _ = beside()
    onnx.save(bench.original, tmp_path / "float.onnx")
    overrides = read_tensor_overrides(tmp_path / "tensor_overrides.json", tmp_path / "float.onnx")
    assert overrides["x"][0]["quant_type"] is QuantType.QUInt16 and [one["axis"] for one in overrides["w1"]] == [0] * 4
    quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "theirs.onnx",
        Reader(bench.feeds),
        activation_type=QuantType.QUInt16,
        weight_type=QuantType.QInt8,
        extra_options={"TensorQuantOverrides": overrides},
    )
    ours, theirs = (constants(model) for model in (written, onnx.load(tmp_path / "theirs.onnx")))
    assert theirs["x_scale"] == ours["x/au16/scale"] and theirs["x_zero_point"] == ours["x/au16/zero_point"]
    np.testing.assert_array_equal(theirs["w1_quantized"], ours["w1/au16w8/codes"])


def test_a_tensor_held_in_two_ways_is_converted_for_those_who_read_the_narrow_one(workbench):
    bench = workbench("three-readers", wide="au16w8", runtime="qnn")
    mixes = [bench.exported(bench.plan(name, precision="au8w8")) for name in bench.names]
    found = [encoded_tensors(WrittenModel(model), names_of(bench.graph)) for model in mixes]
    [ways, *_] = [ways for tensors in found for ways in tensors.values() if len(ways) == 2]
    assert [way.kind.bits for way in ways] == [16, 8] and set(ways[1].readers).isdisjoint(ways[0].readers)
    [entry] = tensor_overrides({"t": ways})["t"]
    assert entry["quant_type"] == "QUInt16" and entry["convert"]["quant_type"] == "QUInt8"
    assert entry["convert"]["recv_nodes"] == list(ways[1].readers)


def test_names_that_the_float_model_has_not_got_are_left_out(beside, tmp_path):
    beside()
    other = onnx.helper.make_graph([], "g", [onnx.helper.make_tensor_value_info("x", 1, ["N"])], [])
    onnx.save(onnx.helper.make_model(other), tmp_path / "other.onnx")
    assert read_tensor_overrides(tmp_path / "tensor_overrides.json", tmp_path / "other.onnx").keys() == {"x"}


def test_the_files_of_another_runtime_are_removed(beside, tmp_path):
    bench, *_ = beside()
    write_beside(tmp_path, "reference", tmp_path / "model.onnx", bench.layer_table, bench.machine.cache)
    assert not any((tmp_path / name).exists() for name in FILES)
