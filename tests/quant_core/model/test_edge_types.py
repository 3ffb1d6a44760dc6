"""Rules 2 to 4 of narrowing a layer: which type every edge carries."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quant_core.model.edge_types import EdgeTypes, edge_types
from quant_core.model.operators import COMPUTE_OPS, DEFAULT_LAYER_OPS, Role
from quant_core.model.topology import Topology
from quant_core.precision import DataType
from tests.models import MODELS, build
from tests.quant_core.workbench import bench, same

WIDE, NARROW = DataType.INT16, DataType.INT8


@pytest.fixture
def types(workbench):
    """Maps a model and the layers to narrow to its EdgeTypes, and each reader's demand by (node, position)."""

    def settled(name: str, *narrow: str) -> tuple[EdgeTypes, dict[tuple[str, int], DataType]]:
        made = workbench(name)
        found = edge_types(made.quantizer.topology, made.plan(*narrow), made.config.wide)
        return found, {(made.graph.nodes[node].name, at): kind for (node, at), kind in found.demand.items()}

    return settled


@pytest.mark.parametrize("name", MODELS)
def test_all_wide_has_one_type_everywhere(types, name):
    found, demands = types(name)
    assert set(found.base.values()) == {WIDE}
    assert set(demands.values()) <= {WIDE}


@pytest.mark.parametrize(
    ("narrow", "carried"),
    [
        pytest.param([], WIDE, id="none"),
        pytest.param(["one"], WIDE, id="one"),
        pytest.param(["one", "three"], WIDE, id="two"),
        pytest.param(["one", "two", "three"], NARROW, id="all"),
    ],
)
def test_a_tensor_with_three_readers_is_narrow_only_when_all_are(types, narrow, carried):
    found, demands = types("three-readers", *narrow)
    assert found.base["r"] is carried
    for reader in ("one", "two", "three"):
        assert demands[reader, 0] is (NARROW if reader in narrow else WIDE)


def test_a_tensor_read_by_a_layer_and_a_computation_stays_wide(types):
    found, demands = types("residual", "inner")
    assert found.base["r"] is WIDE
    assert demands["inner", 0] is NARROW


def test_what_a_layer_writes_belongs_to_its_reader(types):
    found, _ = types("residual", "stem", "head")
    assert found.base["x"] is NARROW
    assert found.base["r"] is WIDE  # written by the narrow stem
    assert found.base["t"] is NARROW  # read by the narrow head


def test_values_are_moved_in_the_type_their_reader_wants(types):
    found, _ = types("concat", "after")
    # All three branches are joined in int8; the input also feeds two wide layers, so its pooling starts wide.
    assert [found.base[name] for name in ("j", "a1", "b", "p", "x")] == [NARROW, NARROW, NARROW, NARROW, WIDE]


def test_a_mover_with_readers_of_two_types_moves_wide_values(types):
    found, demands = types("mover-between", "c2")
    assert found.base["s"] is WIDE
    assert demands["c2", 0] is NARROW
    assert found.base["a"] is WIDE


def test_an_output_of_the_model_stays_wide(types):
    found, demands = types("layer-is-output", "second")
    assert found.base["y"] is WIDE
    assert demands["second", 0] is NARROW


def test_both_operands_of_a_product_of_activations_are_narrowed(types):
    found, demands = types("two-activations", "scores")
    assert (demands["scores", 0], demands["scores", 1]) == (NARROW, NARROW)
    assert (found.base["q"], found.base["t"], found.base["k"]) == (NARROW, NARROW, NARROW)
    assert found.base["x"] is WIDE


def test_all_nodes_that_share_a_weight_are_narrowed(types):
    found, demands = types("shared-weight", "first")
    assert (demands["first", 0], demands["second", 0]) == (NARROW, NARROW)
    assert (found.base["x"], found.base["z"]) == (NARROW, NARROW)


def test_a_subgraph_that_reads_a_tensor_keeps_it_wide(types):
    found, demands = types("if-body", "c2")
    assert found.base["r"] is WIDE
    assert demands["c2", 0] is NARROW


def test_what_only_float_operators_touch_carries_no_type(types):
    found, _ = types("lstm")
    assert "all" not in found.base
    found, _ = types("transformer")
    assert "ids" not in found.base  # integers


def test_a_tensor_with_infinities_carries_no_type(types):
    found, demands = types("infinite-mask")
    assert "m" not in found.base
    assert {"s", "p", "a"} <= set(found.base)


def test_there_is_no_tensor_between_a_layer_and_its_activation(workbench, types):
    assert {"a", "b", "c"} <= workbench("chain").quantizer.topology.fused
    found, _ = types("chain")
    assert {"a", "b", "c"}.isdisjoint(found.base)


@pytest.mark.parametrize("second", ["z = Sigmoid(a)", "z = Identity(a)"], ids=["another-reader", "an-output"])
def test_a_tensor_somebody_else_reads_is_not_fused_away(tmp_path, second):
    made = bench(
        build(
            f"(float[N,4] x) => (float[N,4] y, float[N,4] z) {{ [m] a = MatMul(x, w) y = Relu(a) {second} }}",
            {"w": (4, 4)},
        ),
        tmp_path,
    )
    assert not made.quantizer.topology.fused


def test_layers_outside_the_search_stay_wide_and_are_quantized(tmp_path):
    made = bench(MODELS["chain"](), tmp_path, layer_ops=("Gemm",))
    assert made.names == ["fc"]
    topology = made.quantizer.topology
    assert [role for node, role in zip(made.graph.nodes, topology.roles) if node.op_type == "Conv"] == [Role.LAYER] * 3
    written = {node.name: node for node in made.exported(made.plan("fc")).graph.node}
    for conv in ("c1", "c2", "c3"):
        assert written[conv].input[1].endswith("/a16w8")


@pytest.mark.parametrize(
    ("narrow", "carried"),
    [
        pytest.param({"inner"}, (WIDE, WIDE), id="convolution"),
        pytest.param({"Add"}, (WIDE, NARROW), id="addition"),
        pytest.param({"inner", "Add"}, (NARROW, NARROW), id="both"),
    ],
)
def test_a_computation_that_is_a_candidate_follows_the_same_rules(workbench, narrow, carried):
    made = workbench("residual", layer_ops=(*DEFAULT_LAYER_OPS, *COMPUTE_OPS))
    plan = made.plan(*(layer.name for layer in made.layers if {layer.name, layer.op} & narrow))
    found = edge_types(made.quantizer.topology, plan, made.config.wide)
    # r is read by the convolution and the addition, b by the addition alone.
    assert (found.base["r"], found.base["b"]) == carried


def test_roles_need_no_calibration(workbench):
    made = workbench("chain")
    assert Topology.of(made.graph, made.layers) == made.quantizer.topology


@pytest.fixture
def named(workbench):
    """Maps a model, narrow layers and types of tensors to what every tensor carries, and each reader's demand."""

    def settled(name, *narrow, **tensors):
        made = workbench(name)
        plan = replace(made.plan(*narrow), tensors=tuple(tensors.items()))
        found = edge_types(made.quantizer.topology, plan, made.config.wide)
        return found.base, {(made.graph.nodes[node].name, at): kind for (node, at), kind in found.demand.items()}

    return settled


def test_a_named_tensor_carries_its_type_and_no_other_changes(named):
    before, _ = named("residual")
    carried, demands = named("residual", r=NARROW)
    assert carried == before | {"r": NARROW}
    assert demands["inner", 0] is WIDE  # whose plan says so: a pair of its own behind


def test_a_computation_takes_a_named_tensor_as_it_is(named, workbench):
    _, demands = named("residual", r=NARROW)
    adds = [node.name for node in workbench("residual").graph.nodes if node.op_type == "Add"]
    assert {demands[adds[0], 0], demands[adds[0], 1]} == {WIDE, NARROW}


def test_a_named_tensor_behind_a_mover_leaves_what_the_mover_reads_wide(named):
    before, _ = named("movers")
    carried, _ = named("movers", "c2", u=NARROW)
    assert carried == before | {"u": NARROW}


def test_a_tensor_named_float_carries_no_pair(named):
    before, _ = named("residual")
    carried, _ = named("residual", r=DataType.FLOAT32)
    assert carried == {name: kind for name, kind in before.items() if name != "r"}


def test_a_layer_of_two_activations_takes_each_as_it_is(named):
    _, demands = named("two-activations", q=NARROW)
    assert (demands["scores", 0], demands["scores", 1]) == (NARROW, WIDE)


def test_dual_pairs_keep_the_wide_type_of_every_tensor(workbench):
    made = workbench("three-readers")
    plan = made.plan("one", "two", "three")
    found = edge_types(made.quantizer.topology, plan, made.config.wide, dual=True)
    assert set(found.base.values()) == {WIDE}
    demanded = {made.graph.nodes[node].name: kind for (node, _), kind in found.demand.items()}
    assert [demanded[name] for name in ("stem", "one", "two", "three")] == [WIDE, NARROW, NARROW, NARROW]


def test_what_no_layer_reads_may_stay_float(workbench):
    made = workbench("residual")
    plan = made.plan("inner")
    found = edge_types(made.quantizer.topology, plan, made.config.wide, others=DataType.FLOAT32)
    demanded = {made.graph.nodes[node].name: kind for (node, _), kind in found.demand.items()}
    assert "r" not in found.base and demanded["inner"] is NARROW
    assert set(found.base).isdisjoint(made.graph.outputs)


def test_others_in_float_have_no_pair_and_are_simulated_as_they_are_shipped(workbench):
    pairs = []
    for others in ("wide", "float32"):
        made = workbench("residual", others=others)
        for plan in made.plans():
            assert same(made.ship(plan), made.simulate(plan))
        nodes = made.exported(made.plan("inner")).graph.node
        pairs.append(sum(node.op_type == "QuantizeLinear" for node in nodes))
    assert pairs[1] < pairs[0]


def test_a_dual_pair_is_a_narrow_one_behind_the_wide_one(workbench):
    written = [
        [
            node.op_type
            for node in workbench("chain", dual_pairs=dual).exported(workbench("chain").plan("c2")).graph.node
        ]
        for dual in (False, True)
    ]
    assert written[1].count("QuantizeLinear") == written[0].count("QuantizeLinear") + 1
