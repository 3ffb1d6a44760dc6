"""Every type a layer can have: how it is written, that it runs, that file and simulation agree, what it counts."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
import pytest

from quant_core.config import config_from
from quant_core.errors import InputError, UnsupportedError
from quant_core.model.edge_types import edge_types
from quant_core.numerics import QParams, dequantize, quantize
from quant_core.precision import DataType, Precision
from quant_core.probing.ranking import rank
from quant_core.quantization.weights import reduction_axis
from quant_core.search.cost import counted_cost
from quant_core.storage.schemas import PROBES
from tests.models import MODELS, build
from tests.quant_core.workbench import bench, distance, same

OLD = ("upsample-9", "resize-10", "group-norm-18")
"""Models that stay at an opset older than 21."""

CASES = {
    "int4": ({}, "a8w4"),
    "int4-per-channel": ({"per_channel": True}, "a8w4"),
    "int4-blocks": ({"block_size": 16}, "a8w4"),
    "uint4-blocks": ({"wide": "au16wu16", "block_size": 16, "symmetric": False}, "au8wu4"),
    "uint4-mse": ({"wide": "a16wu8", "calibrate": "mse", "calibrate_weights": "mse"}, "a8wu4"),
    "uint8-per-channel": ({"wide": "au16wu16", "per_channel": True}, "au8wu8"),
    "int16": ({"wide": "a16w16"}, "a8w16"),
    "float32": ({"wide": "float32"}, "a8w8"),
    "float32-int4": ({"wide": "float32", "block_size": 16}, "a8w4"),
    "float16": ({"wide": "float16"}, "a8w8"),
    "bfloat16": ({"wide": "bfloat16"}, "au8w4"),
    "narrow-float16": ({"wide": "float32"}, "float16"),
    "powers-of-two": ({"calibrate": "pow2-minmse", "per_channel": True}, "a8w4"),
}
cases = pytest.mark.parametrize(("config", "narrow"), CASES.values(), ids=CASES)
models = pytest.mark.parametrize("name", MODELS)
FLOATS = pytest.mark.parametrize("wide", ["float32", "float16", "bfloat16"])


def needs_a_newer_opset(name, config):
    return name in OLD and ("block_size" in config or (config.get("wide") == "bfloat16" and name != "group-norm-18"))


@cases
@models
def test_files_pass_the_checker_and_agree_with_the_simulation_bit_for_bit(workbench, name, config, narrow):
    if needs_a_newer_opset(name, config):
        pytest.skip("test_what_an_old_opset_cannot_say_is_refused")
    made = workbench(name, **config)
    for plan in made.plans(narrow)[:3]:
        onnx.checker.check_model(made.exported(plan), full_check=True)
        assert same(made.ship(plan), made.simulate(plan)), plan


@cases
@pytest.mark.parametrize(
    "name", ["chain", "gemm-variants", "concat", "movers", "transposed", "transformer", "resize-10"]
)
def test_files_run_with_all_optimisations(workbench, name, config, narrow):
    if needs_a_newer_opset(name, config):
        pytest.skip("test_what_an_old_opset_cannot_say_is_refused")
    made = workbench(name, **config)
    plan = made.plan(*made.names[::2], precision=narrow)
    # ONNX Runtime multiplies 4-bit weights with inputs that it rounds to 8 bits itself.
    assert distance(made.ship(plan, ort.GraphOptimizationLevel.ORT_ENABLE_ALL), made.simulate(plan)) < 0.1


@cases
def test_probes_agree_with_the_simulation_bit_for_bit(workbench, config, narrow):
    for name in ("chain", "residual", "concat", "transformer"):
        made = workbench(name, **config)
        plans = made.plans(narrow)
        for plan, found in zip(plans, made.probe(plans)[1:], strict=True):
            assert same(found, made.simulate(plan)), (name, plan)


# ---- how weights are written


def initializer(model, name):
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def reader(model, name):
    return next(node for node in model.graph.node if name in node.input)


@pytest.mark.parametrize(
    ("code", "kind", "size"),
    [
        ("4", "INT4", 0.5),
        ("u4", "UINT4", 0.5),
        ("8", "INT8", 1),
        ("u8", "UINT8", 1),
        ("16", "INT16", 2),
        ("u16", "UINT16", 2),
    ],
    ids=str,
)
def test_weights_are_stored_in_their_type(workbench, code, kind, size):
    made = workbench("gemm-variants", wide="a16w16", runtime="reference")
    model = made.exported(made.plan("plain", precision=f"a8w{code}"))
    tensor = initializer(model, f"w1/a8w{code}/codes")
    assert onnx.TensorProto.DataType.Name(tensor.data_type) == kind
    assert len(tensor.raw_data) == 30 * size  # packed two to a byte
    assert reader(model, tensor.name).op_type == "DequantizeLinear"


def test_an_odd_number_of_4_bit_weights_is_packed(tmp_path):
    model = build("(float[N,3] x) => (float[N,5] y) { [m] y = MatMul(x, w) }", {"w": (3, 5)})
    made = bench(model, tmp_path)
    plan = made.plan("m", precision="a8w4")
    assert len(initializer(made.exported(plan), "w/a8w4/codes").raw_data) == 8
    assert same(made.ship(plan), made.simulate(plan))


@pytest.mark.parametrize("code", ["2", "u2"])
def test_weights_of_2_bits_are_packed_four_to_a_byte(code, tmp_path):
    model = build("(float[N,3] x) => (float[N,5] y) { [m] y = MatMul(x, w) }", {"w": (3, 5)})
    made = bench(model, tmp_path, opset=25)
    plan = made.plan("m", precision=f"a8w{code}")
    assert len(initializer(made.exported(plan), f"w/a8w{code}/codes").raw_data) == 4
    assert same(made.ship(plan), made.simulate(plan))
    older = bench(model, tmp_path)
    with pytest.raises(UnsupportedError, match=r"u?int2 weights need .* opset 25; this model is at 21"):
        older.ship(older.plan("m", precision=f"a8w{code}"))


@pytest.mark.parametrize("dtype", [DataType.INT2, DataType.INT4, DataType.UINT4], ids=lambda dtype: dtype.name)
def test_a_block_is_quantized_as_if_it_were_alone(dtype):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 40, 3)).astype(np.float32)
    scale = rng.uniform(0.1, 0.5, (2, 3, 3)).astype(np.float32)
    zero = rng.integers(*dtype.code_range, (2, 3, 3))
    blocked = QParams(dtype, scale, zero, block=16)
    codes = quantize(values, blocked, axis=1)
    for block in range(3):
        rows = slice(16 * block, 16 * block + 16)
        alone = QParams(dtype, scale[:, block : block + 1], zero[:, block : block + 1])
        np.testing.assert_array_equal(codes[:, rows], quantize(values[:, rows], alone))
        np.testing.assert_array_equal(dequantize(codes, blocked, axis=1)[:, rows], dequantize(codes[:, rows], alone))


def wide_linears():
    """Forty inputs: two and a half blocks of 16. A MatMul, Gemms with and without transB, a constant on the left."""
    return build(
        """(float[N,40,40] x) => (float[N,40,6] y) {
            [left] a = MatMul(w1, x)    [right] b = MatMul(a, w2)   s = Reshape(b, flat)
            [plain] c = Gemm(s, w3, b3) r = Relu(c)  [turned] d = Gemm<transB=1>(r, w4, b4)  y = Reshape(d, back)
        }""",
        {
            **{"w1": (40, 40), "w2": (40, 40), "w3": (40, 48), "b3": (48,), "w4": (6, 48), "b4": (6,)},
            **{"flat": np.array([-1, 40]), "back": np.array([-1, 40, 6])},
        },
    )


BLOCKED = {"left": (1, (40, 3)), "right": (0, (3, 40)), "plain": (0, (3, 48)), "turned": (1, (6, 3))}


@pytest.mark.parametrize("narrow", ["a8w4", "a8wu4", "a8w4b16"])
def test_blocks_lie_along_the_inputs(tmp_path, narrow):
    made = bench(wide_linears(), tmp_path, block_size=None if narrow.endswith("b16") else 16)
    plan = made.plan(*made.names, precision=narrow)
    model = made.exported(plan)
    for layer in made.layers:
        node = reader(model, f"{layer.weight}/{narrow}/codes")
        attributes = {entry.name: entry.i for entry in node.attribute}
        scale = initializer(model, node.input[1].replace("/float32", "/rounded"))
        assert (attributes["axis"], tuple(scale.dims)) == BLOCKED[layer.name]
        assert scale.data_type == onnx.TensorProto.FLOAT16
        assert attributes["block_size"] == 16
        assert reduction_axis(made.graph, layer) == attributes["axis"]
    assert same(made.ship(plan), made.simulate(plan))
    optimized = made.ship(plan, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    assert distance(optimized, made.simulate(plan)) < 0.1


def test_blocks_are_closer_than_channels_and_channels_than_one_scale(tmp_path):
    errors = []
    for number, config in enumerate([{"block_size": 16}, {"per_channel": True}, {}]):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = bench(wide_linears(), folder, **config)
        weights = [made.quantizer.weight(layer.name, Precision.parse("a8w4")) for layer in made.layers]
        values = [np.asarray(made.graph.constant(layer.weight)) for layer in made.layers]
        errors.append(
            sum(
                np.square(dequantize(weight.codes, weight.qparams, weight.axis) - exact).sum()
                for weight, exact in zip(weights, values, strict=True)
            )
        )
    assert errors == sorted(errors)


def test_blocks_are_of_4_bit_matrices_alone(workbench):
    made = workbench("chain", block_size=16)
    wide, narrow = made.config.wide, Precision.parse("a8w4")
    assert made.quantizer.weight("fc", narrow).qparams.block == 16
    assert made.quantizer.weight("fc", wide).qparams.block is None
    assert made.quantizer.weight("c1", narrow).qparams.block is None


def test_a_bias_beside_blocks_stays_float(workbench):
    made = workbench("chain", block_size=16)
    for precision, kept in [("a8w4", True), ("a8w8", False)]:
        fc = next(node for node in made.exported(made.plan("fc", precision=precision)).graph.node if node.name == "fc")
        assert (fc.input[2] == "b4") is kept


# ---- wide floating-point types


@models
def test_a_model_left_in_float32_is_the_prepared_model(workbench, name):
    made = workbench(name, wide="float32")
    written = made.exported(made.wide).graph.node
    assert [node.SerializeToString() for node in written] == [node.SerializeToString() for node in made.graph.nodes]


@models
def test_a_narrow_layer_in_float32_has_its_pair_directly(workbench, name):
    made = workbench(name, wide="float32")
    for layer in made.layers:
        model = made.exported(made.plan(layer.name))
        writers = {tensor: node for node in model.graph.node for tensor in node.output}
        inside = {made.graph.nodes[index].name for index in layer.nodes}
        for node in model.graph.node:
            pairs = [writers[tensor] for tensor in node.input if tensor in writers]
            pairs = [pair for pair in pairs if pair.op_type == "DequantizeLinear"]
            if node.name in inside:
                assert len(pairs) >= 2, node.name
            for pair in pairs:  # and no wide pair before it
                source = writers.get(pair.input[0])
                before = writers.get(source.input[0]) if source is not None else None
                assert before is None or before.op_type not in ("DequantizeLinear", "Cast") or node.name not in inside


def test_other_layers_of_a_float32_model_keep_their_numbers(workbench):
    made = workbench("residual", wide="float32")
    model = made.exported(made.plan("inner"))
    stem, join = (next(node for node in model.graph.node if node.op_type == op) for op in ("Conv", "Add"))
    assert list(stem.input) == ["x", "w1", "b1"]
    assert join.input[1] == made.graph.nodes[[node.op_type for node in made.graph.nodes].index("Add")].input[1]


@pytest.mark.parametrize(("wide", "kind"), [("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)])
def test_half_types_round_edges_and_weights(workbench, wide, kind):
    made = workbench("two-activations", wide=wide)
    found = made.simulate(made.wide)["y"]
    half = {name: np.asarray(made.graph.constant(name)).astype(kind).astype(np.float32) for name in ("wq", "wk")}

    def edge(values):
        return np.asarray(values, np.float32).astype(kind).astype(np.float32)

    x = edge(made.feeds["x"])
    scores = edge(edge(x @ half["wq"]) @ np.swapaxes(edge(x @ half["wk"]), 1, 2))
    exponents = np.exp(scores - scores.max(-1, keepdims=True))
    expected = edge(exponents / exponents.sum(-1, keepdims=True))
    # Sums in another order may round to the neighbouring value.
    np.testing.assert_allclose(found, expected, rtol=float(ml_dtypes.finfo(kind).eps) * 4)
    np.testing.assert_array_equal(found, edge(found))


@pytest.mark.parametrize(("wide", "kind"), [("float16", "FLOAT16"), ("bfloat16", "BFLOAT16")])
def test_half_types_are_stored_in_half(workbench, wide, kind):
    made = workbench("chain", wide=wide)
    model = made.exported(made.wide)
    assert initializer(model, "b1").data_type == onnx.TensorProto.FLOAT  # a bias is added to a float32 sum
    for name in ("w1", "w4"):
        tensor = initializer(model, f"{name}/{wide}/rounded")
        assert onnx.TensorProto.DataType.Name(tensor.data_type) == kind
    assert "DequantizeLinear" not in {node.op_type for node in model.graph.node}
    assert {node.domain for node in model.graph.node} == {""}


@FLOATS
def test_a_boundary_behind_a_wide_float(workbench, wide):
    """Rule 3 of narrowing: what a wide reader shares keeps its wide form, the narrow reader has a pair of its own."""
    made = workbench("residual", wide=wide)
    types = edge_types(made.quantizer.topology, made.plan("inner"), made.config.wide)
    inner = next(index for index, node in enumerate(made.graph.nodes) if node.name == "inner")
    tensor = made.graph.nodes[inner].input[0]
    assert types.base.get(tensor, DataType.FLOAT32).code == wide
    assert types.demand[inner, 0] is DataType.INT8


def test_a_value_float16_cannot_hold_is_refused_with_what_to_use(tmp_path):
    model = build("(float[N,3] x) => (float[N,3] y) { [m] y = MatMul(x, w) }", {"w": np.eye(3, dtype=np.float32) * 1e5})
    made = bench(model, tmp_path, wide="float16")
    with pytest.raises(InputError, match=r"'w' takes values up to 1e\+05, and float16 ends at 6.55e\+04: use bfloat16"):
        made.exported(made.wide)
    with pytest.raises(InputError, match="'y' takes values up to .* use bfloat16 or float32"):
        made.quantizer.check_tensor_fits("y", DataType.FLOAT16)


def test_a_mask_float16_cannot_hold_stays_float32(tmp_path):
    model = build(
        "(float[N,3] x) => (float[N,3] y) { [m] a = MatMul(x, w) b = Max(a, floor) y = Tanh(b) }",
        {"w": (3, 3), "floor": np.float32([-1e9, 0, -1e9])},
    )
    made = bench(model, tmp_path, wide="float16")
    assert reader(made.exported(made.wide), "floor").op_type == "Max"
    assert same(made.ship(made.wide), made.simulate(made.wide))


# ---- what cannot be written


@pytest.mark.parametrize("name", OLD)
def test_what_an_old_opset_cannot_say_is_refused(workbench, name):
    with pytest.raises(
        UnsupportedError, match=r"block_size needs the standard's pairs of opset 21; .* use per_channel"
    ):
        workbench(name, block_size=16).quantizer  # noqa: B018
    if name != "group-norm-18":
        made = workbench(name, wide="bfloat16")
        with pytest.raises(UnsupportedError, match=r"bfloat16 needs opset 13, and the model stays at .*: use float16"):
            made.exported(made.wide)


def test_a_block_size_without_4_bit_weights_is_refused():
    target = {"metric": "l2", "limit": 1.0}
    with pytest.raises(
        InputError,
        match="block_size is for 4-bit weights, and for 8-bit ones beside floats: add a precision such as a8w4",
    ):
        config_from(target=target, block_size=32)
    assert config_from(target=target, block_size=32, narrow=["a8w8", "a8w4"]).quantization().block_size == 32


@pytest.mark.parametrize(
    "ladder",
    [("float32", "a8w8", "a8w4"), ("float32", "float16", "a8w8"), ("bfloat16", "a16w8", "a8w8"), ("a16w16", "a8wu4")],
    ids=" -> ".join,
)
def test_ladders(ladder):
    wide, *narrow = ladder
    config = config_from(target={"metric": "l2", "limit": 1.0}, wide=wide, narrow=narrow)
    assert [str(config.wide), *map(str, config.narrow)] == list(ladder)


def test_a_float_of_the_same_width_is_no_step():
    with pytest.raises(InputError, match="bfloat16 is not narrower than float16"):
        config_from(target={"metric": "l2", "limit": 1.0}, wide="float16", narrow=["bfloat16"])


# ---- what it counts


@pytest.mark.parametrize(
    ("wide", "narrow", "bits"),
    [
        ("float32", "a8w8", (1024, 64, 24)),
        ("float32", "a8w4", (1024, 32, 28)),
        ("float16", "a8wu4", (256, 32, 12)),
        ("bfloat16", "a16w8", (256, 128, 8)),
        ("a16w8", "a8w4", (128, 32, 4)),
        ("au16wu16", "au8wu8", (256, 64, 8)),
    ],
)
def test_bit_operations_and_weight_bytes(workbench, wide, narrow, bits):
    before, after, saved = bits
    made = workbench("gemm-variants", wide=wide)
    macs = {"plain": 30, "turned": 24, "scaled": 24, "scalar": 18}
    cost = counted_cost("bops", made.layers, [made.config.wide, Precision.parse(narrow)])
    assert cost.total(made.wide) == sum(macs.values()) * before
    assert cost.total(made.plan("plain", precision=narrow)) == 30 * after + 66 * before
    columns = {"layer": ["plain", "scalar"], "precision": [narrow] * 2, "losses": [[0.1], [0.2]], "seconds": [0.0] * 2}
    ranking = rank(made.layer_table, [pa.Table.from_pydict(columns, schema=PROBES)], made.config.wide)
    assert ranking.column("bops_saved").to_pylist() == [30 * (before - after), 18 * (before - after)]
    assert ranking.column("bytes_saved").to_pylist() == [30 * saved // 8, 18 * saved // 8]


def test_4_bit_weights_take_half_a_byte_each_of_the_file(tmp_path):
    made = bench(build("(float[N,512] x) => (float[N,512] y) { [m] y = MatMul(x, w) }", {"w": (512, 512)}), tmp_path)
    files = {code: made.exported(made.plan("m", precision=f"a8w{code}")) for code in ("4", "8", "16")}
    for model in files.values():
        del model.metadata_props[:]
    sizes = {code: model.ByteSize() for code, model in files.items()}
    assert 2**17 < sizes["4"] < 2**17 + 4096
    assert abs(sizes["8"] - 2**18) < 4096
    assert abs(sizes["16"] - 2**19) < 4096


@pytest.mark.parametrize(
    "config", [{}, {"per_channel": True}, {"block_size": 16}, {"calibrate_weights": "mse"}], ids=str
)
def test_a_weight_without_values(tmp_path, config):
    model = build(
        "(float[N,3] x) => (float[N,2] y, float[N,0] z) { [m] z = MatMul(x, w)  [n] y = MatMul(x, v) }",
        {"w": np.zeros((3, 0), np.float32), "v": (3, 2)},
    )
    made = bench(model, tmp_path, **config)
    plan = made.plan("m", "n", precision="a8w4")
    assert same(made.ship(plan), made.simulate(plan))
