"""A plan of the user's, from names to the measured file."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from quant_core import (
    Criterion,
    InputError,
    LayerWiseConfig,
    PrecisionPlan,
    Target,
    auto_mixed_precision,
    layer_wise,
)
from quant_core.config import config_from
from quant_core.precision import DataType, Precision
from tests.models import MODELS, build, samples
from tests.quant_core.workbench import saved

ONNX_TYPES = {kind.onnx_type: str(kind) for kind in DataType}


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A model's file with calibration and evaluation data."""
    model = MODELS["residual"]()
    return saved(model, tmp_path_factory.mktemp("residual")), samples(model, 12, 1), samples(model, 8, 2)


@pytest.fixture
def run(job, tmp_path):
    def ran(tensors, name="out", **options):
        given = {"evaluation": job[2]} | options
        return layer_wise(job[0], tensors=tensors, calibration=job[1], output=tmp_path / name, workers=1, **given)

    return ran


def pairs(path) -> dict[str, list[str]]:
    """Types of the Q/DQ pairs of each activation of a written model, by the tensor's name in the float model."""
    graph = onnx.load(path).graph
    zeros = {tensor.name: ONNX_TYPES[tensor.data_type] for tensor in graph.initializer}
    found: dict[str, list[str]] = {}
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            found.setdefault(node.output[0].split("/")[0], []).append(zeros[node.input[2]])
    return found


def test_the_named_tensors_have_the_named_types_and_no_others(run):
    before = pairs(run({"a16w8": ["*"]}).model)
    after = pairs(run({"int8": ["r"], "uint16": ["t"]}).model)
    assert before == {name: ["int16"] for name in before}
    assert after == before | {"r": ["int8"], "t": ["uint16"]}


def test_the_file_is_measured_and_the_manifest_says_what_it_is(run, job):
    outcome = run({"a8w8": ["inner"], "int8": ["t"]}, holdout=samples(MODELS["residual"](), 5, 9))
    manifest = json.loads((outcome.folder / "manifest.json").read_text())
    assert manifest["job"] == "layer-wise"
    assert manifest["plan"] == {"stem": "a16w8", "inner": "a8w8", "head": "a8w8"}
    assert manifest["tensors"] == {"t": "int8"}
    assert manifest["narrow"] == ["a8w8"]
    assert manifest["narrowed"]["layers"] == 2
    assert manifest["target"]["limit"] is None
    assert outcome.met
    scores = manifest["scores"]
    assert 0 < scores["wide"]["l2"] < scores["mixed"]["l2"] < 1
    assert scores["holdout"]["l2"] > 0
    names = {path.name for path in outcome.folder.iterdir()}
    assert {"model.onnx", "layers.arrow", "search.arrow", "sensitivity.arrow", "report.html"} <= names


def test_without_evaluation_data_the_calibration_data_measure(run, job):
    def reader():
        parts = iter([job[1]])
        return type("Reader", (), {"get_next": lambda self: next(parts, None)})()

    model, given = job[0], reader()
    outcome = layer_wise(model, tensors={"int8": ["head"]}, calibration=given, output=run({"int8": ["head"]}).folder)
    assert outcome.manifest.data.evaluation == outcome.manifest.data.calibration
    page = (outcome.folder / "report.html").read_text()
    assert "No other data than the calibration data was given" in page
    assert "Target" not in page.split("<title>")[1].split("</title>")[0]


def test_a_target_is_checked(run):
    loose = run({"a8w8": ["*"]}, config=LayerWiseConfig(target=Target(metric="l2", limit=10.0)))
    tight = run({"a8w8": ["*"]}, "tight", config=LayerWiseConfig(target=Target(metric="l2", limit=1e-6)))
    assert tight.plan == loose.plan and tight.manifest.scores.mixed == loose.manifest.scores.mixed
    assert (loose.met, tight.met) == (True, False)
    assert tight.model.exists()
    assert not tight.manifest.target.met


def test_measured_by_another_metric(run):
    outcome = run({"a8w8": ["*"]}, config=LayerWiseConfig(target=Criterion(metric="sqnr_db")))
    assert outcome.manifest.target.model_dump() | {"confidence": None} == {
        "metric": "sqnr_db",
        "limit": None,
        "function": None,
        "confidence": None,
        "met": True,
    }


@pytest.mark.parametrize(
    "options",
    [{}, {"wide": "a16w16", "calibrate": "minmax", "per_channel": True}, {"calibrate": "pow2-nonoverflow"}],
    ids=["defaults", "per channel", "powers of two"],
)
def test_a_plan_of_auto_given_back_gives_the_same_file(job, run, tmp_path, options):
    both = run({"a8w8": ["*"]}, "narrow", config=LayerWiseConfig.model_validate(options)).manifest.scores
    limit = both.wide["l2"] + 0.8 * (both.mixed["l2"] - both.wide["l2"])
    settings = config_from(target={"metric": "l2", "limit": limit}, **options)
    found = auto_mixed_precision(
        job[0], calibration=job[1], evaluation=job[2], config=settings, output=tmp_path / "auto", workers=1
    )
    assert len(set(found.plan.as_dict().values())) == 2
    again = run(found.folder / "manifest.json")
    assert again.model.read_bytes() == found.model.read_bytes()
    assert again.manifest.scores.mixed == found.manifest.scores.mixed
    assert run(again.folder / "manifest.json", "third").model.read_bytes() == found.model.read_bytes()


def test_a_manifest_edited_by_hand_is_another_plan(run, tmp_path):
    first = run({"a8w8": ["inner"], "int8": ["x"]})
    manifest = json.loads((first.folder / "manifest.json").read_text())
    manifest["plan"]["inner"] = "a16w8"
    manifest["tensors"] = {}
    (tmp_path / "edited.json").write_text(json.dumps(manifest))
    second = run(tmp_path / "edited.json", "second")
    assert second.plan.as_dict() == {"stem": "a8w8", "inner": "a16w8", "head": "a16w8"}
    assert second.model.read_bytes() != first.model.read_bytes()


def test_a_plan_may_be_given_as_it_is(run):
    plan = run({"a8w8": ["inner"], "int8": ["t"]}).plan
    assert run(plan, "again").plan == plan
    unknown = PrecisionPlan.uniform(["stem", "nose"], Precision.parse("a8w8"))
    with pytest.raises(InputError, match="'layer:nose': no layer has that name"):
        run(unknown)


def test_bad_names_are_found_before_anything_is_computed_or_written(run, tmp_path):
    with pytest.raises(InputError, match="'nose' is neither a layer nor a tensor"):
        run({"a8w8": ["nose"]})
    assert not (tmp_path / "out").exists()


def test_a_tensor_without_a_range_cannot_be_named(tmp_path):
    model = MODELS["infinite-mask"]()
    data = samples(model, 4)
    with pytest.raises(InputError, match=r"tensor 'm' cannot be int8: in calibration it was empty, or infinite"):
        layer_wise(saved(model, tmp_path), tensors={"int8": ["m"]}, calibration=data, output=tmp_path / "out")


def test_a_constant_operand_may_be_named(tmp_path):
    model = MODELS["transformer"]()
    data = samples(model, 4)
    outcome = layer_wise(saved(model, tmp_path), tensors={"int8": ["root"]}, calibration=data, output=tmp_path / "out")
    graph = onnx.load(outcome.model).graph
    codes = {tensor.name: tensor.data_type for tensor in graph.initializer if tensor.name.endswith("/codes")}
    assert [name for name, kind in codes.items() if name.startswith("root/")] == ["root/a8/codes"]
    assert codes["root/a8/codes"] == onnx.TensorProto.INT8


@pytest.mark.parametrize("name", ["chain", "residual", "concat", "movers", "shared-weight", "transformer"])
def test_a_plan_with_tensors_is_simulated_as_it_is_shipped(workbench, name):
    from dataclasses import replace

    from tests.quant_core.workbench import same

    made = workbench(name)
    tensors = made.calibration.column("tensor").to_pylist()[::2]
    kinds = [DataType.INT8, DataType.UINT16, DataType.FLOAT32, DataType.FLOAT16]
    plan = replace(made.plan(*made.names[::2]), tensors=tuple((t, kinds[i % 4]) for i, t in enumerate(tensors)))
    shipped = made.ship(plan)
    assert same(made.simulate(plan), shipped)
    assert not same(made.ship(made.wide), shipped)
    assert all(np.isfinite(values).all() for values in shipped.values())


def test_matmulnbits_takes_its_blocks_from_the_plan(tmp_path):
    model = build("(float[N,64] x) => (float[N,8] y) { y = MatMul(x, w) }", {"w": np.ones((64, 8), np.float32)})
    given = {"calibration": samples(model, 8, 1), "config": LayerWiseConfig(format="matmulnbits", wide="float32")}
    outcome = layer_wise(saved(model, tmp_path), tensors={"float32w4b32": ["*"]}, output=tmp_path / "out", **given)
    assert "MatMulNBits" in [node.op_type for node in onnx.load(outcome.model).graph.node]
    for precision, sizes in (("float32w4b512", "16 to 256"), ("float32w4", "give a block_size")):
        with pytest.raises(InputError, match=f"format: matmulnbits is for weights in blocks.*{sizes}"):
            layer_wise(saved(model, tmp_path), tensors={precision: ["*"]}, output=tmp_path / "no", **given)
