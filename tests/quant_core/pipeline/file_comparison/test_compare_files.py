"""`narrowcast compare` on two model files, of any tool."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static

from flows.command_line.check import check
from flows.command_line.compare import compare
from quant_core.config import LayerWiseConfig
from quant_core.config.inputs import InputsConfig
from quant_core.errors import InputError
from quant_core.pipeline.check import check_file
from quant_core.pipeline.file_comparison.compare_files import compare_files
from quant_core.pipeline.layer_wise import layer_wise
from tests.models import MODELS, build, samples
from tests.quant_core.workbench import saved

COUNT = 24


class Reader(CalibrationDataReader):
    def __init__(self, data):
        self.batches = iter([data])

    def get_next(self):
        return next(self.batches, None)


@pytest.fixture
def given(tmp_path):
    """A float model, its data, and our file at a16w8 but for one layer."""
    model = MODELS["chain"]()
    data, source = samples(model, COUNT), saved(model, tmp_path)
    config = LayerWiseConfig(wide="a16w8")
    ours = layer_wise(
        source, tensors={"int8": ["c2"]}, calibration=data, config=config, output=tmp_path / "out", workers=1
    )
    return source, data, ours.folder / "model.onnx"


def theirs(source, data, folder, quantize=quantize_static, **options):
    path = folder / "theirs.onnx"
    quantize(source, path, *([] if quantize is quantize_dynamic else [Reader(data)]), **options)
    return path


@pytest.mark.parametrize("kind", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_a_file_of_another_tool_is_put_beside_ours(given, tmp_path, kind):
    source, data, ours = given
    other = theirs(source, data, tmp_path, quant_format=kind)
    found, errors = compare_files(ours, other, source, data)
    assert found.kind == "models" and found.of == 4 and found.caveats == ()
    assert {layer.layer: (layer.first, layer.second) for layer in found.layers} == {
        "c1": ("a16w8", "a8w8"),
        "c3": ("a16w8", "a8w8"),
        "fc": ("a16w8", "a8w8"),
    }
    lines = {line.name: line for line in found.lines}
    assert lines["layers"].first == "3 a16w8, 1 a8w8" and lines["layers"].second == "4 a8w8"
    assert lines["model file"].second.endswith("kB") and "ms" in lines["time of one sample"].second
    assert float(lines["L2 distance, in onnxruntime"].first.split()[0]) > 0
    known = {error.tensor: error.decibels for error in errors}
    assert known["a"][0] > known["b1_"][0] > 20
    assert (known["a1"][1] is None) == (kind is QuantFormat.QOperator), "its tensors hold codes"
    assert len(found.samples) == 8 and {len(sample.answers) for sample in found.samples} == {3}
    distances = [float(sample.distance) for sample in found.samples]
    assert distances == sorted(distances, reverse=True)


def test_a_file_beside_itself_differs_in_nothing_but_its_times(given):
    source, data, ours = given
    found, _ = compare_files(ours, ours, source, data)
    assert (found.layers, found.samples, found.caveats) == ((), (), ())
    assert {line.name for line in found.lines if not line.same} <= {"time of one sample"}
    assert all(tensor.same for tensor in found.tensors)


def test_weights_alone_and_codes_made_on_the_way_are_read(given, tmp_path):
    source, data, ours = given
    other = theirs(source, data, tmp_path, quantize_dynamic)
    found, _ = compare_files(source, other, source, data, "reference")
    precisions = {layer.layer: (layer.first, layer.second) for layer in found.layers}
    assert precisions["c1"] == ("float32", "au8w8") and precisions["fc"] == ("float32", ""), "it is a MatMul there"
    assert found.caveats[0].startswith("2 of 5 layers are in one of the files only: ")
    assert found.caveats[1] == "reference is not run here: scores are those of the Q/DQ pairs"


def test_what_does_not_run_is_unknown_and_what_can_be_read_is_told(given, tmp_path):
    source, data, ours = given
    model = onnx.load(ours)
    node = next(node for node in model.graph.node if node.name == "c2")
    node.domain, node.op_type = "com.vendor", "FusedConv"
    model.opset_import.append(onnx.helper.make_opsetid("com.vendor", 1))
    onnx.save(model, tmp_path / "vendor.onnx")
    found, errors = compare_files(ours, tmp_path / "vendor.onnx", source, data)
    assert found.caveats[0].startswith("B does not run in onnxruntime: ") and found.samples == ()
    assert [(layer.layer, layer.second) for layer in found.layers] == [("c2", "unknown")]
    lines = {line.name: line.second for line in found.lines}
    assert lines["time of one sample"] == lines["L2 distance, in onnxruntime"] == "unknown"
    assert {error.decibels[1] for error in errors} == {None}


def test_a_model_of_other_outputs_is_refused(given, tmp_path):
    source, data, ours = given
    (tmp_path / "other").mkdir()
    other = saved(MODELS["several-inputs-and-outputs"](), tmp_path / "other")
    with pytest.raises(InputError, match=r"float.onnx: has inputs .*, and the float model x: it is not made of it"):
        compare_files(ours, other, source, data)


def test_the_command_compares_files_and_folders_and_says_what_it_needs(given, tmp_path):
    source, data, ours = given
    np.savez(tmp_path / "data.npz", **data)
    arguments = [str(ours.parent), str(source), "--float", str(source), "--evaluation", str(tmp_path / "data.npz")]
    page = tmp_path / "both.html"
    assert CliRunner().invoke(compare, [*arguments, "--out", str(page)]).exit_code == 0
    assert 'id="depth-chart"' in page.read_text() and "Two models side by side" in page.read_text()
    told = CliRunner().invoke(compare, [*arguments[:2], *arguments[-2:]])  # the run knows its float model
    assert told.exit_code == 0 and "4 of 4 layers differ in precision" in told.output
    as_json = json.loads(CliRunner().invoke(compare, [*arguments, "--json"]).output)
    assert as_json["kind"] == "models" and len(as_json["samples"]) == 8
    assert "| SQNR (dB) of tensor | A | B |" in CliRunner().invoke(compare, [*arguments, "--markdown"]).output
    for wrong in ([str(ours), str(source)], [str(ours.parent), str(ours.parent), "--runtime", "qnn"]):
        assert CliRunner().invoke(compare, wrong).exit_code == 2


SAID = {"fix_inputs": ("rate=2",), "sample_axis": ("x=1", "y=1")}


def time_major(weight=None):
    """Samples are on the second axis, and one input is set for good."""
    return build("(float[A,B,8] x, float rate) => (float[A,B,3] y) { h = MatMul(x, w)  y = Mul(h, rate) }",
                 {"w": (8, 3) if weight is None else weight})  # fmt: skip


def test_axes_and_fixed_inputs_are_taken_as_a_run_takes_them(tmp_path):
    model, data = time_major(), {"x": np.random.default_rng(0).standard_normal((24, 4, 8)).astype(np.float32)}
    source, config = saved(model, tmp_path), LayerWiseConfig(wide="a8w8", **SAID)
    ours = layer_wise(source, tensors={}, calibration=data, config=config, output=tmp_path / "out", workers=1)
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0])
    onnx.save(time_major(weight * np.float32(1.1)), tmp_path / "theirs.onnx")  # which still has the fixed input
    file, said = ours.folder / "model.onnx", InputsConfig(**SAID)
    for runtime in ("onnxruntime", "reference"):
        checked = check_file(file, runtime, data, source, said=said)
        assert checked.deployed["l2"] == pytest.approx(ours.manifest.scores.mixed["l2"], rel=1e-5)
    found, _ = compare_files(file, tmp_path / "theirs.onnx", source, data, "onnxruntime", said)
    (scores,) = (line for line in found.lines if line.name == "SQNR (dB), in onnxruntime")
    assert scores.second == "20.0 (20.0 to 20.0)"  # a tenth of the signal
    np.savez(tmp_path / "data.npz", **data)
    told = CliRunner().invoke(
        check,
        f"{file} --evaluation {tmp_path / 'data.npz'} --float {source} --set rate=2 --sample-axis x=1,y=1 --json".split(),
        catch_exceptions=False,
    )
    assert json.loads(told.output)["deployed"] == checked.deployed
