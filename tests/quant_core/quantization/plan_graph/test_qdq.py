"""What is measured is what is shipped: simulation, probes and file agree on every model and kind of plan."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import hypothesis
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_core.model.operators import COMPUTE_OPS, DEFAULT_LAYER_OPS, Role, role_of
from quant_core.model.opset import opset_of
from quant_core.model.sessions import Numerics
from quant_core.quantization.plan_graph.qdq import PlanWriter
from tests.models import MODELS
from tests.quant_core.workbench import distance, same

SETTINGS = {
    "symmetric": ({}, "a8w8"),
    "per-channel-asymmetric": ({"per_channel": True, "symmetric": False}, "a8w8"),
    "unsigned-minmax": ({"wide": "au16w16", "calibrate": "minmax"}, "au8w8"),
}
OTHER_TYPES = {
    "float32": ({"wide": "float32"}, "a8w8"),
    "float16": ({"wide": "float16"}, "au8w8"),
    "bfloat16": ({"wide": "bfloat16"}, "a8w8"),
    "int4-blocks": ({"block_size": 16}, "a8w4"),
    "weight-only": ({"wide": "float32"}, "float32w8"),
    "weight-only-in-blocks": ({"wide": "float16", "block_size": 16}, "float16w4"),
    "int4-powers-of-two": ({"calibrate": "pow2-minmse", "per_channel": True}, "a8w4"),
}
EVERYTHING = (*DEFAULT_LAYER_OPS, *COMPUTE_OPS)
STAY_BEHIND = ("upsample-9", "resize-10", "group-norm-18")
"""Models whose opset is too old for bfloat16 and blocks."""
PAIRS = ("QuantizeLinear", "DequantizeLinear")
settings = pytest.mark.parametrize(("config", "narrow"), SETTINGS.values(), ids=SETTINGS)
models = pytest.mark.parametrize("name", MODELS)
some_subsets = hypothesis.settings(max_examples=12, deadline=None, derandomize=True)


def subsets(names):
    """Some of the layers, at least one."""
    return st.sets(st.sampled_from(names), min_size=1).map(sorted)


@settings
@models
def test_simulation_and_file_agree_bit_for_bit(workbench, name, config, narrow):
    made = workbench(name, **config)
    for plan in made.plans(narrow):
        assert same(made.simulate(plan), made.ship(plan)), plan


@settings
@models
def test_probes_and_simulation_agree_bit_for_bit(workbench, name, config, narrow):
    made = workbench(name, **config)
    plans = made.plans(narrow)
    wide, *probed = made.probe(plans)
    assert same(wide, made.simulate(made.wide))
    for plan, found in zip(plans, probed, strict=True):
        assert same(found, made.simulate(plan)), plan


@pytest.mark.parametrize(("config", "narrow"), OTHER_TYPES.values(), ids=OTHER_TYPES)
@pytest.mark.parametrize("name", [name for name in MODELS if name not in STAY_BEHIND])
def test_all_three_agree_on_other_types(workbench, name, config, narrow):
    made = workbench(name, **config)
    plans = [made.plan(*made.names, precision=narrow), made.plan(*made.names[::2], precision=narrow)]
    for plan, probed in zip(plans, made.probe(plans)[1:], strict=True):
        simulated = made.simulate(plan)
        assert same(simulated, probed), plan
        assert same(simulated, made.ship(plan)), plan


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [pytest.param("a16w8", "a8w8", id="int16"), pytest.param("float32", "au8w4", id="float32")],
)
@pytest.mark.parametrize("name", ["residual", "concat", "movers", "several-inputs-and-outputs", "transformer"])
def test_all_three_agree_when_every_operator_is_a_candidate(workbench, name, wide, narrow):
    made = workbench(name, wide=wide, layer_ops=EVERYTHING)
    plans = made.plans(narrow)
    for plan, probed in zip(plans, made.probe(plans)[1:], strict=True):
        simulated = made.simulate(plan)
        assert same(simulated, probed), plan
        assert same(simulated, made.ship(plan)), plan


@models
def test_plain_sessions_without_optimisations_give_the_same_bits(workbench, name):
    made = workbench(name)
    plan = made.plan(*made.names[::2])
    assert same(made.ship(plan, ort.GraphOptimizationLevel.ORT_DISABLE_ALL), made.simulate(plan))


@models
def test_fast_probes_stay_close_to_the_simulation(workbench, name):
    made = workbench(name)
    plans = made.plans()
    for plan, found in zip(plans, made.probe(plans, Numerics.FAST)[1:], strict=True):
        assert distance(found, made.simulate(plan)) < 0.05, plan


# Level 2 moves a pair forward through a data mover and writes it with `output_dtype`; on x64 it then turns int8
# pairs into uint8 ones without changing that attribute, and the model does not load. It leaves a mover alone
# that has a pair behind it as well, as all of ours have (`test_every_moved_value_is_quantized_again`).
@settings
@models
def test_the_file_runs_with_all_optimisations(workbench, name, config, narrow):
    made = workbench(name, **config)
    for plan in (made.wide, *made.plans(narrow)[1:3]):
        assert distance(made.ship(plan, ort.GraphOptimizationLevel.ORT_ENABLE_ALL), made.simulate(plan)) < 0.1, plan


def test_an_all_int8_file_runs_with_all_optimisations(workbench):
    for name in ("movers", "mover-between", "transformer", "concat", "lstm"):
        made = workbench(name, wide="a8w8")
        assert distance(made.ship(made.wide, ort.GraphOptimizationLevel.ORT_ENABLE_ALL), made.simulate(made.wide)) < 0.2


@models
def test_every_moved_value_is_quantized_again(workbench, name):
    made = workbench(name)
    for plan in made.plans():
        model = made.exported(plan)
        written_by = {tensor: node for node in model.graph.node for tensor in node.output}
        readers = {}
        for node in model.graph.node:
            for tensor in node.input:
                readers.setdefault(tensor, []).append(node.op_type)
        for node in model.graph.node:
            source = written_by.get(node.input[0]) if node.input else None
            moves = role_of(node.op_type, node.domain, frozenset()) is Role.MOVER
            if moves and source is not None and source.op_type == "DequantizeLinear":
                for tensor in node.output:
                    assert set(readers.get(tensor, ["QuantizeLinear"])) == {"QuantizeLinear"}, (node.name, tensor)


@models
def test_files_pass_the_checker(workbench, name):
    made = workbench(name)
    for plan in made.plans():
        onnx.checker.check_model(made.exported(plan), full_check=True)


@models
def test_wide_plan_gives_the_wide_file_whatever_was_written_before(workbench, name):
    made = workbench(name)
    used = PlanWriter(made.quantizer, folded=False)
    first = used.write(made.wide)
    for plan in made.plans()[1:]:
        used.write(plan)
    again = used.write(made.wide.narrowed(dict(made.wide.layers)))
    assert [node.SerializeToString() for node in again.nodes] == [node.SerializeToString() for node in first.nodes]
    assert made.exported(made.wide).SerializeToString(deterministic=True) == made.exported(
        made.wide.narrowed(dict(made.wide.layers))
    ).SerializeToString(deterministic=True)


class Traced:
    """An exported model, asked in which types the values that a node reads were ever held."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = {node.name: node for node in model.graph.node}
        self.written_by = {tensor: node for node in model.graph.node for tensor in node.output}
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}

    def types(self, tensor: str) -> list[str]:
        """Types from the reader back to the operator that computed the values, through movers; none of constants."""
        node = self.written_by.get(tensor)
        if node is None:
            return []
        if node.op_type in PAIRS:
            if node.input[0] in self.constants:
                return []
            kind = onnx.TensorProto.DataType.Name(self.constants[node.input[2]].data_type)
            return [kind, *self.types(node.input[0])] if node.op_type == PAIRS[1] else self.types(node.input[0])
        if role_of(node.op_type, node.domain, frozenset()) is Role.MOVER:
            count = len(node.input) if node.op_type == "Concat" else 1
            return [kind for moved in node.input[:count] for kind in self.types(moved)]
        return []

    def held(self, node: onnx.NodeProto) -> dict[int, bytes]:
        """What a node reads at each position: scale, zero point and, of a constant, codes, as bytes."""
        found = {}
        for position, tensor in enumerate(node.input):
            source = self.written_by.get(tensor)
            if source is not None and source.op_type == "DequantizeLinear":
                parts = [self.constants[name] for name in source.input if name in self.constants]
                found[position] = b"".join(onnx.numpy_helper.to_array(part).tobytes() for part in parts)
        return found


@models
@some_subsets
@given(drawn=st.data())
def test_narrowing_a_superset_touches_no_layer_outside_it(workbench, name, drawn):
    made = workbench(name)
    wide = Traced(made.exported(made.wide))
    narrow = drawn.draw(subsets(made.names))
    traced = Traced(made.exported(made.plan(*narrow)))
    inside = {made.graph.nodes[index].name for layer in made.layers if layer.name in narrow for index in layer.nodes}
    for node in made.graph.nodes:
        if node.name not in inside and role_of(node.op_type, "", frozenset(DEFAULT_LAYER_OPS)) is not Role.MOVER:
            there = traced.nodes[node.name]
            assert traced.held(there) == wide.held(wide.nodes[node.name]), node.name
            for tensor in there.input:
                assert "INT8" not in traced.types(tensor), node.name
    for tensor in made.graph.outputs:
        assert "INT8" not in traced.types(tensor), tensor


@pytest.mark.parametrize("folded", [False, True])
@models
def test_what_a_change_rewrites_is_all_that_a_plan_writes_differently(workbench, name, folded):
    """So a probe costs what it changes, not another look at the whole graph."""
    made = workbench(name)
    writer = PlanWriter(made.quantizer, folded)
    carried = list(writer.write(made.wide).types.base)
    changes = [("a8w8", [], []), ("a16w4", carried[::3], carried[::3]), ("a16w4", [], carried[::3])]
    changes += [("a8w8", carried[::3], carried[1::3]), ("float32", carried[::2], []), ("float32w8", [], [])]
    for precision, kept, tensors in changes:
        before = writer.write(made.wide.with_float(kept))
        for plan in (one.with_float(tensors) for one in made.plans(precision)):
            whole = writer.write(plan)
            written = {unit: [] for unit in before.units}
            for node, unit in zip(before.nodes, before.units, strict=True):
                written[unit].append(node)
            written |= writer.rewritten(before, plan, plan.changed_from(made.wide))
            nodes = [node for unit in sorted(written) for node in written[unit]]
            assert [id(node) for node in nodes] == [id(node) for node in whole.nodes], plan


@models
@some_subsets
@given(drawn=st.data())
def test_a_plan_that_is_wide_again_gives_the_wide_file(workbench, name, drawn):
    made = workbench(name)
    narrow = drawn.draw(subsets(made.names))
    made.exported(made.plan(*narrow))
    again = made.plan(*narrow).narrowed(dict.fromkeys(narrow, made.config.wide))
    files = [made.exported(plan).SerializeToString(deterministic=True) for plan in (again, made.wide)]
    assert files[0] == files[1]


@models
def test_narrowed_layers_read_narrow_types(workbench, name):
    made = workbench(name)
    for layer in made.layers:
        traced = Traced(made.exported(made.plan(layer.name)))
        for index in layer.nodes:
            node = traced.nodes[made.graph.nodes[index].name]
            kinds = [traced.types(tensor) for tensor in node.input[:2]]
            assert {kind[0] for kind in kinds if kind} == {"INT8"}


def test_a_narrow_layer_reads_through_a_wide_pair_where_something_wide_reads_too(workbench):
    made = workbench("residual")
    traced = Traced(made.exported(made.plan("inner")))
    node = traced.nodes["inner"]
    assert traced.types(node.input[0]) == ["INT8", "INT16"]
    join = next(node for node in traced.nodes.values() if node.op_type == "Add")
    assert [traced.types(tensor) for tensor in join.input] == [["INT16"], ["INT16"]]


def test_a_tensor_all_of_whose_readers_are_narrow_has_one_pair(workbench):
    made = workbench("three-readers")
    for narrow, expected in [
        (["one"], ["INT8", "INT16"]),
        (["one", "two"], ["INT8", "INT16"]),
        (["one", "two", "three"], ["INT8"]),
    ]:
        traced = Traced(made.exported(made.plan(*narrow)))
        assert traced.types(traced.nodes["one"].input[0]) == expected
        # Two narrow readers share one boundary pair.
        assert len({traced.nodes[name].input[0] for name in narrow}) == 1


@models
def test_movers_have_one_scale_on_both_sides(workbench, name):
    made = workbench(name)
    for plan in made.plans():
        traced = Traced(made.exported(plan))
        for index, node in enumerate(made.graph.nodes):
            if made.quantizer.topology.roles[index] is Role.MOVER:
                there = traced.nodes[node.name]
                moved = there.input if node.op_type == "Concat" else there.input[:1]
                sides = [traced.written_by[tensor] for tensor in moved if tensor in traced.written_by]
                sides += [pair for pair in traced.nodes.values() if set(pair.input[:1]) & set(there.output)]
                scales = {}
                for pair in sides:
                    if pair.op_type in PAIRS:
                        scale, zero = (traced.constants[tensor] for tensor in pair.input[1:])
                        values = tuple(onnx.numpy_helper.to_array(part).item() for part in (scale, zero))
                        scales.setdefault(zero.data_type, set()).add(values)
                assert all(len(found) == 1 for found in scales.values()), (plan, node.name)


def test_a_subgraph_reads_what_the_tensor_carries(workbench):
    """Otherwise an If body would be the only reader of a value that no runtime would keep."""
    made = workbench("if-body")
    traced = Traced(made.exported(made.plan("c2")))
    captured = made.graph.nodes[[node.op_type for node in made.graph.nodes].index("If")]
    assert captured.op_type == "If"
    assert traced.written_by["r"].op_type == "DequantizeLinear"
    assert traced.types("r") == ["INT16"]
    assert traced.types(traced.nodes["c2"].input[0]) == ["INT8", "INT16"]


@pytest.mark.parametrize("name", STAY_BEHIND)
def test_models_that_stay_at_an_older_opset_get_the_runtimes_pairs(workbench, name):
    made = workbench(name)
    domains = {node.domain for node in made.exported(made.wide).graph.node if node.op_type in PAIRS}
    assert domains == {"com.microsoft"}


@pytest.mark.parametrize(("name", "opset"), [("opset-7", 13), ("residual", 17), ("opset-21", 21), ("transformer", 17)])
def test_the_runtimes_pairs_leave_an_opset_from_13_on_alone_and_compute_the_same(workbench, name, opset):
    made, standard = workbench(name, pairs="com.microsoft"), workbench(name)
    for precision in ("a8w8", "au8w8", "a16w4"):
        plan = made.plan(*made.names[::2], precision=precision)
        file = made.exported(plan)
        assert opset_of(file) == opset
        assert {node.domain for node in file.graph.node if node.op_type in PAIRS} == {"com.microsoft"}
        assert same(made.ship(plan), made.simulate(plan))
        found, expected = made.ship(plan), standard.ship(plan)
        for output in found:
            np.testing.assert_allclose(found[output], expected[output], rtol=1e-3, atol=1e-3)


def test_models_at_a_new_opset_get_the_standards_pairs(workbench):
    made = workbench("opset-7")
    assert {node.domain for node in made.exported(made.wide).graph.node} == {""}


def test_scales_of_a_tensor_are_scalars(workbench):
    """A vector of one would be a per-channel scale to a strict reader."""
    made = workbench("chain", per_channel=False)
    model = made.exported(made.wide)
    shapes = {tuple(t.dims) for t in model.graph.initializer if t.name.endswith(("/scale", "/zero_point"))}
    assert shapes == {()}


def test_constants_of_a_computation_are_held_in_the_wide_type(workbench):
    made = workbench("transformer")
    traced = Traced(made.exported(made.plan(*made.names)))
    sums = [node for node in traced.nodes.values() if node.op_type in ("Add", "Mul", "Div")]
    stored = [traced.written_by[tensor].input[0] for node in sums for tensor in node.input]
    kinds = {traced.constants[codes].data_type for codes in stored if codes in traced.constants}
    assert kinds == {onnx.TensorProto.INT16}


def test_constants_of_a_narrowed_computation_are_held_in_its_type(workbench):
    made = workbench("transformer", layer_ops=EVERYTHING)
    divide = next(node.name for node in made.graph.nodes if node.op_type == "Div" and node.input[1] == "root")
    written = {node.name: node for node in made.exported(made.plan(divide)).graph.node}
    assert written[divide].input[1] == "root/a8"


def fused_operators(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """Operators that ONNX Runtime makes of a model for the CPU."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(folder / "fused.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "fused.onnx").graph.node)


def test_a_narrow_block_beside_float32_runs_in_integers(workbench, tmp_path):
    made = workbench("residual", wide="float32", layer_ops=EVERYTHING)
    found = fused_operators(made.exported(made.plan(*made.names, precision="au8w8")), tmp_path)
    assert (found["QLinearConv"], found["QLinearAdd"], found["Conv"], found["FusedConv"]) == (3, 1, 0, 0)


@pytest.mark.parametrize("per_channel", [False, True])
def test_the_runtimes_own_format_takes_the_file_with_optimizations_for_run_time(workbench, tmp_path, per_channel):
    made = workbench("residual", wide="float32", per_channel=per_channel, layer_ops=EVERYTHING)
    model = made.exported(made.plan(*made.names, precision="au8w8")).SerializeToString()
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("optimization.minimal_build_optimizations", "save")
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    written, converted = (
        ort.InferenceSession(one, providers=["CPUExecutionProvider"]).run(None, made.feeds)[0]
        for one in (model, options.optimized_model_filepath)
    )
    np.testing.assert_allclose(converted, written, atol=0.1 * np.abs(written).max())


def test_a_mask_of_infinities_stays_as_it_is(workbench):
    made = workbench("infinite-mask")
    model = made.exported(made.wide)
    assert "mask" in {tensor.name for tensor in model.graph.initializer}
    assert np.isfinite(made.ship(made.wide)["y"]).all()
    add = next(node for node in model.graph.node if node.op_type == "Add")
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    assert softmax.input[0] == add.output[0]


@pytest.mark.parametrize(("runtime", "copies"), [("onnxruntime", 1), ("qnn", 2)])
def test_a_weight_of_two_layers_is_stored_for_each_where_none_may_be_shared(workbench, runtime, copies):
    made = workbench("shared-weight", wide="au16w8", runtime=runtime)
    plan = made.plan(*made.names, precision="au8w8")
    codes = [tensor for tensor in made.exported(plan).graph.initializer if list(tensor.dims) == [4, 3, 1, 1]]
    assert len(codes) == copies
    assert same(made.simulate(plan), made.ship(plan)) and same(made.simulate(plan), made.probe([plan])[1])
