"""Models with integer operators: ONNX Runtime's conversion, run and scored as any file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from quant_core import InputError, LayerWiseConfig, UnsupportedError, auto_mixed_precision, layer_wise
from quant_core.config import config_from
from quant_core.model.sessions import open_file, open_nodes
from quant_core.quantization.export import export, exported_reference
from quant_core.quantization.plan_graph.qdq import PlanWriter
from tests.models import MODELS, samples
from tests.quant_core.workbench import Workbench, distance, saved

CONVERTED = ["chain", "residual", "concat", "grouped", "layer-is-output", "movers", "conv1d", "if-body", "transformer"]


def written(made: Workbench) -> Path:
    table = export(made.recipe, made.wide.as_dict(), made.machine, form="qoperator")
    return Path(exported_reference(table, made.machine.cache).url)


def operators(file: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(file).graph.node)


@pytest.mark.parametrize("precision", ["a8w8", "au8w8"])
@pytest.mark.parametrize("name", CONVERTED)
def test_every_layer_becomes_an_integer_operator_with_the_numbers_of_the_pairs(workbench, name, precision):
    made = workbench(name, wide=precision)
    file = written(made)
    found = operators(file)
    integer = found["QLinearConv"] + found["QLinearMatMul"] + found["QGemm"]
    assert integer == sum(len(layer.nodes) for layer in made.layers)
    # A sum may round to the neighbouring code.
    assert distance(open_file(file)(made.feeds), made.ship(made.wide)) < 0.1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "transposed",
            r"no integer operator for layer 'up' \(ConvTranspose\) as it is; leave it in float with exclude",
        ),
        ("gemm-variants", "no integer operator for layer 'scaled'"),
        ("upsample-9", "ONNX Runtime cannot convert the model; use qdq"),
    ],
)
def test_what_has_no_integer_operator_is_named(workbench, name, said):
    with pytest.raises(UnsupportedError, match=said):
        written(workbench(name, wide="au8w8"))


def test_an_activation_gets_a_pair_in_front_that_changes_no_number(workbench):
    for name in ("chain", "grouped", "residual"):
        made = workbench(name, wide="a8w8")
        writer = PlanWriter(made.quantizer, folded=False, unfused=True)
        nodes = writer.write(made.wide).nodes
        found = open_nodes(made.graph, nodes, made.graph.outputs, writer.constants)(made.feeds)
        assert distance(found, made.ship(made.wide)) == 0.0


def test_the_file_with_integer_operators_is_the_one_that_is_scored(tmp_path):
    model = MODELS["two-activations"]()
    data = samples(model, 8)
    outcomes = [
        layer_wise(
            saved(model, tmp_path),
            tensors={"a8w8": ["*"]},
            calibration=data,
            config=LayerWiseConfig(wide="a8w8", format=form, runtime="reference"),
            output=tmp_path / form,
        )
        for form in ("qdq", "qoperator")
    ]
    assert operators(outcomes[1].model)["QLinearMatMul"] == 3
    floats, found = open_file(tmp_path / "float.onnx")(data)["y"], open_file(outcomes[1].model)(data)["y"]
    l2 = float(np.linalg.norm((found - floats).reshape(8, -1), axis=1).mean())
    stated = [outcome.manifest.scores.mixed["l2"] for outcome in outcomes]
    assert stated[1] == pytest.approx(l2, rel=1e-6)
    assert stated[0] != stated[1]


def test_a_search_beside_float32_ships_integer_operators(tmp_path):
    model = MODELS["chain"]()
    data = samples(model, 8)
    # By that cost the first Conv is narrowed too, which is slower in 8 bits.
    options = {"format": "qoperator", "keep_wide": ["fc"], "candidates": "layers", "cost": "bytes"}
    config = config_from(wide="float32", target={"metric": "l2", "limit": 9.0}, **options)
    outcome = auto_mixed_precision(
        saved(model, tmp_path), calibration=data, evaluation=data, config=config, output=tmp_path / "out"
    )
    found = operators(outcome.model)
    # What the third one writes is read in float32: it has no integer operator.
    assert (found["QLinearConv"], found["FusedConv"], found["QGemm"]) == (2, 1, 0)
    assert outcome.met


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"wide": "a16w8", "narrow": ["a8w8"]},
        {"wide": "a8w8", "narrow": ["a8w4"]},
        {"wide": "float32", "narrow": ["a16w8"]},
    ],
)
def test_16_and_4_bits_are_refused(options):
    with pytest.raises(InputError, match="format: ONNX Runtime has integer operators for 8-bit types only, not for "):
        config_from(target={"metric": "l2", "limit": 1.0}, format="qoperator", **options)


def test_a_named_precision_without_integer_operators_is_refused(tmp_path):
    model = MODELS["chain"]()
    with pytest.raises(InputError, match="format: .* not for a16w8"):
        layer_wise(
            saved(model, tmp_path),
            tensors={"a16w8": ["c1"]},
            calibration=samples(model),
            config=LayerWiseConfig(wide="a8w8", format="qoperator"),
            output=tmp_path / "out",
        )
