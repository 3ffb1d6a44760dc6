"""A layer cut out of a written plan begins and ends where runtimes fuse."""

from __future__ import annotations

from quant_core.latency.sections import Section, WrittenPlan
from quant_core.model.operators import COMPUTE_OPS, DEFAULT_LAYER_OPS
from quant_core.precision import Precision, PrecisionPlan
from quant_core.quantization.plan_graph.qdq import PlanWriter
from quant_core.quantization.quantizer import Quantizer
from tests.models import build
from tests.quant_core.workbench import bench

MODEL = """(float[N,3,8,8] x) => (float[N,4,8,8] y) {
    [first] a = Conv<pads=[1,1,1,1]>(x, w, b)
    [relu] r = Relu(a)
    [second] c = Conv<pads=[1,1,1,1]>(r, v)
    [join] y = Add(c, r)
}"""
WEIGHTS = {"w": (4, 3, 3, 3), "b": (4,), "v": (4, 4, 3, 3)}


def sections(tmp_path, precision: str, everything: bool) -> dict[str, Section]:
    layer_ops = (*DEFAULT_LAYER_OPS, *(COMPUTE_OPS if everything else ()))
    made = bench(build(MODEL, WEIGHTS), tmp_path, layer_ops=layer_ops, wide="float32")
    quantizer = Quantizer(made.graph, made.layers, made.calibration, made.config)
    writer = PlanWriter(quantizer, folded=False)
    written = writer.write(PrecisionPlan.uniform(made.names, Precision.parse(precision)))
    plan = WrittenPlan(made.graph, quantizer.topology, written, writer.constants)
    return {layer.name: plan.section(layer) for layer in made.layers}


def ops(section: Section) -> list[str]:
    return [node.op_type for node in section.nodes if node.op_type != "DequantizeLinear"]


def test_in_float_a_layer_is_its_nodes_and_the_activation_behind(tmp_path):
    found = sections(tmp_path, "float32", everything=True)
    assert {name: ops(section) for name, section in found.items()} == {
        "first": ["Conv", "Relu"],
        "second": ["Conv"],
        "join": ["Add"],
    }
    assert found["first"].inputs == ("x",)
    assert found["first"].outputs == ("r",)
    assert set(found["join"].inputs) == {"c", "r"}


def test_between_narrow_layers_codes_are_handed_over(tmp_path):
    found = sections(tmp_path, "au8w8", everything=True)
    assert ops(found["first"]) == ["QuantizeLinear", "Conv", "Relu", "QuantizeLinear"]  # nobody else quantizes x
    assert ops(found["second"]) == ["Conv", "QuantizeLinear"]
    assert ops(found["join"]) == ["Add"]
    assert found["first"].outputs == found["second"].inputs
    assert {*found["second"].outputs, *found["first"].outputs} == {*found["join"].inputs}


def test_beside_float_a_layer_pays_for_its_own_pair(tmp_path):
    found = sections(tmp_path, "au8w8", everything=False)
    assert "first" in found
    assert ops(found["second"]) == ["Conv"]  # what Add reads stays float
    assert "join" not in found
    assert len(found["first"].outputs) == 2  # codes for the convolution, values for the Add


def test_casts_of_a_float_type_belong_to_who_reads(tmp_path):
    found = sections(tmp_path, "float16", everything=True)
    assert [op for op in ops(found["second"]) if op == "Cast"] == ["Cast"] * 3  # to and from for what it reads, weight
    assert found["second"].inputs == ("r",)
