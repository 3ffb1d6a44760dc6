"""Models whose large constants are in a file beside them, all the way from the float model to the shipped one."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from quant_core import auto_mixed_precision
from quant_core.config import MixedPrecisionConfig
from quant_core.model import graph as graph_module
from quant_core.model.model_file import refer_model
from quant_core.model.stored_model import DATA_FILE, MODEL_FILE, add_constants, write_model
from quant_core.pipeline.inspection import inspect_model
from quant_core.probing import probe
from quant_core.probing.probe import layer_sensitivity
from quant_core.quantization import export as export_module
from quant_core.quantization.export import export, exported_reference, is_exported
from quant_core.scoring.evaluation import evaluate_plan, score_file
from quant_core.scoring.float_outputs import float_outputs
from quant_core.scoring.sampling import Samples
from quant_core.storage.data import refer_data
from tests.models import build, samples
from tests.quant_core.workbench import bench, same, saved


def wide_chain() -> onnx.ModelProto:
    """Every weight is larger than what stays in the model."""
    return build(
        """(float[N,8,6,6] x) => (float[N,40] y) {
            [c] a = Conv<pads=[1,1,1,1]>(x, w1, b1)  n = BatchNormalization(a, scale, shift, mean, var)
            r = Relu(n)  g = GlobalAveragePool(r)  f = Flatten(g)
            [m] m = MatMul(f, w2)  s = Sigmoid(m)  k = Mul(s, table)  [fc] y = Gemm<transB=1>(k, w3, b3)
        }""",
        {
            **{"w1": (40, 8, 3, 3), "b1": (40,), "scale": (40,), "shift": (40,), "mean": (40,)},
            **{"var": np.ones(40, np.float32), "w2": (40, 300), "table": (1, 300), "w3": (40, 300), "b3": (40,)},
        },
    )


@pytest.fixture
def made(tmp_path):
    return bench(wide_chain(), tmp_path)


@pytest.fixture
def large(monkeypatch):
    """Everything is large."""
    monkeypatch.setattr(graph_module, "_LARGE", 0)
    monkeypatch.setattr(export_module, "LARGEST_FILE", 0)


def test_the_prepared_weights_are_mapped_from_their_file(made):
    for name, tensor in made.graph.initializers.items():
        outside = tensor.data_location == onnx.TensorProto.EXTERNAL
        assert outside == (np.prod(tensor.dims) * 4 > 1024), name
        assert not outside or isinstance(made.graph.constant(name), np.memmap)
    assert [node.op_type for node in made.graph.nodes][:2] == ["Conv", "Relu"]  # folded all the same


def test_a_float_model_with_weights_beside_it_is_the_same_model(tmp_path, made):
    (tmp_path / "beside").mkdir()
    path = tmp_path / "beside" / "float.onnx"
    onnx.save(wide_chain(), path, save_as_external_data=True, location="some.weights", size_threshold=0)
    assert inspect_model(path) == inspect_model(saved(wide_chain(), tmp_path))


def steps(made, plan, baseline=None):
    """What each step of a run makes of a plan: scores in simulation and of the file, probes, and the file."""
    data, model = refer_data(made.feeds, made.machine.cache), refer_model(saved(made.original, made.machine.cache))
    baseline = baseline or float_outputs(model, made.layer_table, data, "all", None, None, made.machine)
    some = Samples(data, 0, 4)
    exported = export(made.recipe, plan.as_dict(), made.machine)
    reference = exported_reference(exported, made.machine.cache)
    return {
        "baseline": baseline,
        "simulated": evaluate_plan(
            made.recipe, baseline, some, plan.as_dict(), function=None, batch_size=None, machine=made.machine
        ),
        "shipped": score_file(reference, made.layer_table, baseline, data, None, None, made.machine),
        "probes": layer_sensitivity(
            made.recipe, some, made.names, "a8w8", made.wide.as_dict(), "mse", 0, None, made.machine
        ).column("losses"),
        "exported": exported,
    }


@pytest.mark.parametrize("narrow", ["a8w8", "a8w4"])
def test_a_large_model_has_the_numbers_of_a_small_one(made, large, monkeypatch, narrow):
    plan = made.plan("c", "fc", precision=narrow)
    found = steps(made, plan)
    assert found["exported"].column("file").to_pylist() == [MODEL_FILE, DATA_FILE]
    monkeypatch.undo()
    made.graph.__dict__.pop("is_large", None)
    monkeypatch.setattr(probe, "_models", probe._Models())  # else those of the large model are run again
    usual = steps(made, plan, found["baseline"])
    assert usual["exported"].column("file").to_pylist() == [MODEL_FILE]
    assert found["simulated"] == found["shipped"] == usual["simulated"] == usual["shipped"]
    for one, other in zip(found["probes"].to_pylist(), usual["probes"].to_pylist(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0.05)  # sums in another order


def test_a_file_beside_the_shipped_model_belongs_to_it(made, large):
    exported = export(made.recipe, made.wide.as_dict(), made.machine)
    reference = exported_reference(exported, made.machine.cache)
    path = made.machine.cache / "exported" / reference.sha256 / DATA_FILE
    onnx.checker.check_model(reference.url, full_check=True)
    assert onnx.load(reference.url, load_external_data=False).ByteSize() < path.stat().st_size
    assert is_exported(exported, made.machine.cache)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert not is_exported(exported, made.machine.cache)


def test_the_output_folder_of_a_large_model(tmp_path, large):
    feeds = samples(wide_chain(), 6)
    config = MixedPrecisionConfig(target={"metric": "l2", "limit": 100.0})
    arguments = {"calibration": feeds, "evaluation": feeds, "config": config, "output": tmp_path / "out"}
    outcome = auto_mixed_precision(saved(wide_chain(), tmp_path), **arguments)
    files = [tmp_path / "out" / name for name in (MODEL_FILE, DATA_FILE)]
    assert outcome.manifest.output.bytes == sum(file.stat().st_size for file in files)
    session = ort.InferenceSession(files[0], providers=["CPUExecutionProvider"])
    assert session.run(None, feeds)[0].shape == (6, 40)


def test_weights_of_an_earlier_result_do_not_stay(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / DATA_FILE).write_bytes(b"of an earlier run")
    feeds = samples(wide_chain(), 6)
    config = MixedPrecisionConfig(target={"metric": "l2", "limit": 100.0})
    auto_mixed_precision(
        saved(wide_chain(), tmp_path), calibration=feeds, evaluation=feeds, config=config, output=tmp_path / "out"
    )
    assert not (tmp_path / "out" / DATA_FILE).exists()


@pytest.mark.parametrize(
    "dtype",
    [np.float32, np.int8, np.uint16, np.int64, ml_dtypes.bfloat16, ml_dtypes.int2, ml_dtypes.int4, ml_dtypes.uint4],
    ids=str,
)
def test_every_type_is_read_back_from_the_file_beside(tmp_path, dtype):
    arrays = {"w": (np.arange(8001) % 8).reshape(3, -1).astype(dtype), "v": np.full((40, 50), 7, dtype)}
    model = build("(float[N] x) => (float[N] y) { y = Relu(x) }", opset=21, ir_version=10)
    with (tmp_path / DATA_FILE).open("wb") as data:
        add_constants(model, arrays.items(), data)
    read = onnx.load(write_model(model, tmp_path))
    for tensor in read.graph.initializer:
        found = onnx.numpy_helper.to_array(tensor)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, arrays[tensor.name])


def test_writing_twice_gives_the_same_simulation(made):
    assert same(made.simulate(made.wide), made.ship(made.wide))
