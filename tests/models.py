"""Tiny float models built in code: the shapes of graph the engine must get right, with seeded weights."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

__all__ = ["MODELS", "build", "samples"]

FREE_DIM = 5
"""What `samples` makes of a dynamic dimension other than the batch."""


def build(
    body: str,
    weights: Mapping[str, tuple[int, ...] | NDArray[np.generic] | np.generic] | None = None,
    opset: int = 17,
    ir_version: int = 8,
    domains: str = "",
    initializers_are_inputs: bool = False,
) -> onnx.ModelProto:
    """A model from ONNX's text form; `weights` are shapes to fill (seeded by name) or the very values."""
    model = onnx.parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : {opset}{domains}]>\ng {body}')
    for name, given in (weights or {}).items():
        array = _filled(name, given) if isinstance(given, tuple) else np.asarray(given)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        if initializers_are_inputs:
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
    return model


def _filled(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    fan_in = np.prod(shape[1:]) if len(shape) > 1 else 4
    return (generator.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)


def samples(model: onnx.ModelProto, count: int = 4, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Random values for every input a caller feeds."""
    generator = np.random.default_rng(seed)
    constants = {tensor.name for tensor in model.graph.initializer}
    found: dict[str, NDArray[np.generic]] = {}
    for value in model.graph.input:
        if value.name not in constants:
            dims = [dim.dim_value or FREE_DIM for dim in value.type.tensor_type.shape.dim]
            if value.type.tensor_type.elem_type == onnx.TensorProto.INT64:
                found[value.name] = generator.integers(0, 9, (count, *dims[1:]))
            else:
                found[value.name] = generator.standard_normal((count, *dims[1:])).astype(np.float32)
    return found


def chain(opset: int = 17, ir_version: int = 8, listed: bool = False) -> onnx.ModelProto:
    return build(
        """(float[N,3,8,8] x) => (float[N,4] y) {
            [c1] a = Conv<pads=[1,1,1,1]>(x, w1, b1)   a1 = Relu(a)
            [c2] b = Conv<pads=[1,1,1,1]>(a1, w2, b2)  b1_ = Relu(b)
            [c3] c = Conv<strides=[2,2]>(b1_, w3)      c1_ = Relu(c)
            d = GlobalAveragePool(c1_)                 e = Flatten(d)
            [fc] y = Gemm<transB=1>(e, w4, b4)
        }""",
        {
            **{"w1": (4, 3, 3, 3), "b1": (4,), "w2": (4, 4, 3, 3), "b2": (4,)},
            **{"w3": (6, 4, 3, 3), "w4": (4, 6), "b4": (4,)},
        },
        opset,
        ir_version,
        initializers_are_inputs=listed,
    )


def residual() -> onnx.ModelProto:
    """One tensor (r) is read by a convolution and by the Add that joins the block again."""
    return build(
        """(float[N,3,6,6] x) => (float[N,4,6,6] y) {
            [stem] a = Conv<pads=[1,1,1,1]>(x, w1, b1)  r = Relu(a)
            [inner] b = Conv<pads=[1,1,1,1]>(r, w2, b2)
            s = Add(b, r)                               t = Relu(s)
            [head] h = Conv(t, w3, b3)                  y = Sigmoid(h)
        }""",
        {"w1": (4, 3, 3, 3), "b1": (4,), "w2": (4, 4, 3, 3), "b2": (4,), "w3": (4, 4, 1, 1), "b3": (4,)},
    )


def three_readers() -> onnx.ModelProto:
    return build(
        """(float[N,3,6,6] x) => (float[N,4,6,6] y) {
            [stem] a = Conv(x, w0)  r = Relu(a)
            [one] b = Conv(r, w1)   [two] c = Conv(r, w2)  [three] d = Conv(r, w3)
            e = Sum(b, c, d)        y = Tanh(e)
        }""",
        {"w0": (4, 3, 1, 1), "w1": (4, 4, 1, 1), "w2": (4, 4, 1, 1), "w3": (4, 4, 1, 1)},
    )


def concat() -> onnx.ModelProto:
    return build(
        """(float[N,3,6,6] x) => (float[N,2] y) {
            [left] a = Conv<pads=[1,1,1,1]>(x, w1)  a1 = Relu(a)
            [right] b = Conv(x, w2)
            p = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)
            j = Concat<axis=1>(a1, b, p)
            [after] c = Conv(j, w3, b3)             c1 = Relu(c)
            g = GlobalAveragePool(c1)               f = Flatten(g)
            [fc] y = Gemm(f, w4, b4)
        }""",
        {"w1": (2, 3, 3, 3), "w2": (2, 3, 1, 1), "w3": (4, 7, 1, 1), "b3": (4,), "w4": (4, 2), "b4": (2,)},
    )


def shared_weight() -> onnx.ModelProto:
    return build(
        """(float[N,3,6,6] x, float[N,3,6,6] z) => (float[N,4,6,6] y) {
            [first] a = Conv(x, w, b)  [second] c = Conv(z, w, b2)
            [mixing] d = Conv(a, v)    y = Sub(d, c)
        }""",
        {"w": (4, 3, 1, 1), "b": (4,), "b2": (4,), "v": (4, 4, 1, 1)},
    )


def shared_bias() -> onnx.ModelProto:
    """One bias of two layers: each gets codes at its own scale."""
    return build(
        """(float[N,3,6,6] x) => (float[N,3,6,6] y) {
            [first] a = Conv(x, w1, b)  r = Relu(a)  [second] y = Conv(r, w2, b)
        }""",
        {"w1": (3, 3, 1, 1), "w2": (3, 3, 1, 1), "b": (3,)},
    )


def layer_is_output() -> onnx.ModelProto:
    """The tensor a layer writes is an output of the model and read by another layer too."""
    return build(
        """(float[N,3,6,6] x) => (float[N,4,6,6] y, float[N,2,6,6] z) {
            [first] y = Conv(x, w1, b1)  [second] z = Conv(y, w2)
        }""",
        {"w1": (4, 3, 1, 1), "b1": (4,), "w2": (2, 4, 1, 1)},
    )


def two_activations() -> onnx.ModelProto:
    return build(
        """(float[N,5,4] x) => (float[N,5,5] y) {
            [query] q = MatMul(x, wq)  [key] k = MatMul(x, wk)
            t = Transpose<perm=[0,2,1]>(k)
            [scores] s = MatMul(q, t)  y = Softmax<axis=-1>(s)
        }""",
        {"wq": (4, 6), "wk": (4, 6)},
    )


def gemm_variants() -> onnx.ModelProto:
    """Per-channel axes of Gemm with and without transB, alpha and beta, a bias that is no vector."""
    return build(
        """(float[N,5] x) => (float[N,3] y) {
            [plain] a = Gemm(x, w1, b1)                             a1 = Relu(a)
            [turned] b = Gemm<transB=1>(a1, w2, b2)                 b1_ = Relu(b)
            [scaled] c = Gemm<alpha=0.5, beta=2.0>(b1_, w3, b3)     c1 = Sigmoid(c)
            [scalar] y = Gemm(c1, w4, b4)
        }""",
        {
            **{"w1": (5, 6), "b1": (6,), "w2": (4, 6), "b2": (4,), "w3": (4, 6), "b3": (6,)},
            **{"w4": (6, 3), "b4": (1,)},
        },
    )


def matmul_variants() -> onnx.ModelProto:
    """A constant on the left, and one with batch dimensions."""
    return build(
        """(float[N,4,5] x) => (float[N,3,6] y) {
            [left] a = MatMul(w1, x)  b = Sigmoid(a)
            [batched] c = MatMul(b, w2)  d = Unsqueeze(c, axis)  e = Tanh(d)
            [stacked] f = MatMul(e, w3)  y = ReduceMean<axes=[1], keepdims=0>(f)
        }""",
        {"w1": (3, 4), "w2": (1, 5, 5), "w3": (2, 5, 6), "axis": np.array([1])},
    )


def grouped() -> onnx.ModelProto:
    return build(
        """(float[N,4,8,8] x) => (float[N,4,4,4] y) {
            [depthwise] a = Conv<group=4, pads=[1,1,1,1]>(x, w1, b1)   r = Clip(a, lo, hi)
            [pointwise] b = Conv(r, w2)                                s = HardSwish(b)
            [groups] c = Conv<group=2, dilations=[2,2]>(s, w3, b3)     y = LeakyRelu(c)
        }""",
        {
            **{"w1": (4, 1, 3, 3), "b1": (4,), "w2": (4, 4, 1, 1), "w3": (4, 2, 3, 3), "b3": (4,)},
            **{"lo": np.float32(0), "hi": np.float32(1.5)},
        },
    )


def transposed() -> onnx.ModelProto:
    return build(
        """(float[N,4,4,4] x) => (float[N,4,8,8] y) {
            [up] a = ConvTranspose<strides=[2,2]>(x, w1, b1)           r = Relu(a)
            [groups] b = ConvTranspose<group=2>(r, w2, b2)             y = Sigmoid(b)
        }""",
        {"w1": (4, 4, 2, 2), "b1": (4,), "w2": (4, 2, 1, 1), "b2": (4,)},
    )


def conv1d() -> onnx.ModelProto:
    return build(
        """(float[N,3,16] x) => (float[N,4,6] y) {
            [wide] a = Conv<dilations=[2]>(x, w1, b1)  r = Relu(a)
            p = AveragePool<kernel_shape=[2], strides=[2]>(r)  [narrow] y = Conv(p, w2)
        }""",
        {"w1": (4, 3, 3), "b1": (4,), "w2": (4, 4, 1)},
    )


def conv3d() -> onnx.ModelProto:
    return build(
        """(float[N,2,4,4,4] x) => (float[N,2,2,2,2] y) {
            [one] a = Conv<pads=[1,1,1,1,1,1]>(x, w1, b1)  r = Relu(a)
            m = MaxPool<kernel_shape=[2,2,2], strides=[2,2,2]>(r)  [two] y = Conv(m, w2)
        }""",
        {"w1": (3, 2, 3, 3, 3), "b1": (3,), "w2": (2, 3, 1, 1, 1)},
    )


def movers() -> onnx.ModelProto:
    """Everything between the layers only moves values, or cuts them off at bounds off the grid."""
    return build(
        """(float[N,3,8,8] x) => (float[N,6] y, float[N,2,3,3] kept) {
            [c1] a = Conv(x, w1)
            m = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a)   p = Pad(m, pads, filling)
            s = Slice(p, starts, ends, axes)                    t = Transpose<perm=[0,1,3,2]>(s)
            c = Clip(t, lo, hi)                                 u, kept = Split<axis=1>(c, parts)
            [c2] b = Conv(u, w2)                                k = Slice(b, starts2, ends, axes)
            f = Reshape(k, shape)                               [fc] g = MatMul(f, w3)
            h = Unsqueeze(g, axis)                              y = Squeeze(h, axis)
        }""",
        {
            **{"w1": (4, 3, 1, 1), "w2": (3, 2, 1, 1), "w3": (12, 6), "filling": np.float32(0.3)},
            **{"lo": np.float32(-0.77), "hi": np.float32(0.91), "parts": np.array([2, 2]), "axis": np.array([1])},
            **{"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "starts": np.array([1, 1]), "starts2": np.array([1, 1])},
            **{"ends": np.array([4, 4]), "axes": np.array([2, 3]), "shape": np.array([-1, 12])},
        },
    )


def mover_between() -> onnx.ModelProto:
    """A Slice whose result is read by a layer and by an Add: what ORT moves pairs through."""
    return build(
        """(float[N,3,6,6] x) => (float[N,4,3,3] y) {
            [c1] a = Conv(x, w1)             s = Slice(a, starts, ends, axes)
            [c2] b = Conv(s, w2)             t = Slice(a, starts2, ends2, axes)
            [c3] c = Conv(t, w3)             d = Sum(b, c, s)  y = Relu(d)
        }""",
        {
            **{"w1": (4, 3, 1, 1), "w2": (4, 4, 1, 1), "w3": (4, 4, 1, 1), "axes": np.array([2, 3])},
            **{"starts": np.array([0, 0]), "ends": np.array([3, 3])},
            **{"starts2": np.array([3, 3]), "ends2": np.array([6, 6])},
        },
    )


def lstm() -> onnx.ModelProto:
    return build(
        """(float[N,3,7] x) => (float[N,2] y) {
            [conv] a = Conv<pads=[1,1]>(x, w1, b1)  r = Relu(a)
            t = Transpose<perm=[2,0,1]>(r)
            all, last = LSTM<hidden_size=4>(t, w, u, bias)
            s = Squeeze(last, axis)                 [fc] y = Gemm<transB=1>(s, w2, b2)
        }""",
        {
            **{"w1": (5, 3, 3), "b1": (5,), "w": (1, 16, 5), "u": (1, 16, 4), "bias": (1, 32)},
            **{"w2": (2, 4), "b2": (2,), "axis": np.array([0])},
        },
    )


def if_body() -> onnx.ModelProto:
    """Both bodies read a tensor of the enclosing graph that a layer reads as well."""
    return build(
        """(float[N,3,6,6] x, float[N,1] chooser) => (float[N,4,6,6] y) {
            [c1] a = Conv(x, w1)  r = Relu(a)
            m = ReduceMax<keepdims=0>(chooser)  flag = Greater(m, zero)
            i = If(flag) <
                then_branch = g1 () => (float[N,4,6,6] o1) { o1 = Sin(r) },
                else_branch = g2 () => (float[N,4,6,6] o2) { k = Cos(r)  o2 = Mul(k, half) }
            >
            [c2] b = Conv(r, w2)  s = Add(b, i)  [c3] y = Conv(s, w3)
        }""",
        {
            **{"w1": (4, 3, 1, 1), "w2": (4, 4, 1, 1), "w3": (4, 4, 1, 1)},
            **{"zero": np.float32(0), "half": np.float32(0.5)},
        },
    )


def loop_body() -> onnx.ModelProto:
    return build(
        """(float[N,4] x) => (float[N,4] y) {
            [before] a = MatMul(x, w1)
            l = Loop(trips, go, a) <
                body = g1 (int64 i, bool c, float[N,4] v) => (bool c2, float[N,4] v2) {
                    c2 = Identity(c)  h = MatMul(v, w2)  v2 = Sin(h)
                }
            >
            [after] y = MatMul(l, w3)
        }""",
        {
            **{"w1": (4, 4), "w2": (4, 4), "w3": (4, 4), "trips": np.array(2), "go": np.array(True)},
        },
    )


def scan_body() -> onnx.ModelProto:
    return build(
        """(float[N,3,4] x) => (float[N,3,4] y) {
            [before] a = MatMul(x, w1)  t = Transpose<perm=[1,0,2]>(a)
            last, s = Scan(start, t) <
                num_scan_inputs = 1, body = g1 (float[4] state, float[M,4] v) => (float[4] state2, float[M,4] v2) {
                    h = MatMul(v, w2)  v2 = Add(h, state)  state2 = Sin(state)
                }
            >
            u = Transpose<perm=[1,0,2]>(s)  [after] y = MatMul(u, w3)
        }""",
        {"w1": (4, 4), "w2": (4, 4), "w3": (4, 4), "start": (4,)},
    )


def transformer(opset: int = 17) -> onnx.ModelProto:
    """Embedding, one attention head, GELU by Erf, two LayerNorms; batch and length are dynamic."""
    return build(
        """(int64[N,T] ids) => (float[N,T,3] y) {
            e = Gather(table, ids)                     n = LayerNormalization(e, g1, h1)
            [q] q_ = MatMul(n, wq)  qb = Add(q_, bq)   [k] k_ = MatMul(n, wk)   [v] v_ = MatMul(n, wv)
            t = Transpose<perm=[0,2,1]>(k_)            [scores] s = MatMul(qb, t)
            d = Div(s, root)        p = Softmax(d)     [mix] m = MatMul(p, v_)
            [out] o = MatMul(m, wo)                    r = Add(o, e)
            n2 = LayerNormalization(r, g2, h2)         [up] u = MatMul(n2, w1)
            z = Div(u, sqrt2)  f = Erf(z)  f1 = Add(f, one)  f2 = Mul(u, f1)  f3 = Mul(f2, half)
            [down] w = MatMul(f3, w2)                  r2 = Add(w, r)   [head] y = MatMul(r2, wh)
        }""",
        {
            **{"table": (9, 8), "wq": (8, 8), "bq": (8,), "wk": (8, 8), "wv": (8, 8), "wo": (8, 8), "wh": (8, 3)},
            **{"w1": (8, 12), "w2": (12, 8), "g1": np.ones(8, np.float32), "h1": (8,), "g2": (8,), "h2": (8,)},
            **{"root": np.float32(8**0.5), "sqrt2": np.float32(2**0.5)},
            **{"one": np.float32(1), "half": np.float32(0.5)},
        },
        opset,
    )


def several_inputs_and_outputs() -> onnx.ModelProto:
    return build(
        """(float[N,3,6,6] image, float[N,4] vector, int64[N,1] index) => (float[N,2] y, float[N,4] z, float[N,4] w) {
            [c] a = Conv(image, w1)  g = GlobalMaxPool(a)  f = Flatten(g)
            e = Gather(table, index)  s = Squeeze(e, axis)
            z = Sum(f, vector, s)  [fc] y = Gemm(z, w2, b2)  w = Relu(vector)
        }""",
        {"w1": (4, 3, 1, 1), "table": (9, 4), "w2": (4, 2), "b2": (2,), "axis": np.array([1])},
    )


def dynamic_dims() -> onnx.ModelProto:
    return build(
        """(float[N,3,H,W] x) => (float[N,2,P,Q] y) {
            [c1] a = Conv<pads=[1,1,1,1]>(x, w1, b1)  r = Relu(a)
            s = Shape(r)  z = Expand(tiny, s)  d = Add(r, z)  [c2] y = Conv(d, w2)
        }""",
        {"w1": (4, 3, 3, 3), "b1": (4,), "w2": (2, 4, 1, 1), "tiny": np.full(1, 0.01, np.float32)},
    )


def fixed_batch() -> onnx.ModelProto:
    return build(
        """(float[1,3,6,6] x) => (float[1,4] y) {
            [c1] a = Conv(x, w1, b1)  r = Relu(a)  g = GlobalAveragePool(r)
            f = Reshape(g, shape)  [fc] y = Gemm(f, w2, b2)
        }""",
        {"w1": (4, 3, 3, 3), "b1": (4,), "w2": (4, 4), "b2": (4,), "shape": np.array([1, 4])},
    )


def constant_nodes() -> onnx.ModelProto:
    """Weights that are no initializers: a Constant node, and a ConstantOfShape."""
    return build(
        """(float[N,4] x) => (float[N,2] y) {
            w1 = Constant<value = float[4,3] {1.0,-0.5,0.25,0.3,0.7,-1.0,0.2,0.1,-0.4,0.9,-0.6,0.8}>()
            [a] h = MatMul(x, w1)  r = Relu(h)
            shape = Constant<value = int64[2] {3,2}>()
            w2 = ConstantOfShape<value = float[1] {0.3}>(shape)  [b] y = MatMul(r, w2)
        }"""
    )


def custom_domain() -> onnx.ModelProto:
    return build(
        """(float[N,4] x) => (float[N,4] y) {
            [before] a = MatMul(x, w1)  b = com.microsoft.QuickGelu(a)  [after] y = MatMul(b, w2)
        }""",
        {"w1": (4, 4), "w2": (4, 4)},
        domains=', "com.microsoft" : 1',
    )


def old_resampling(op: str, opset: int) -> onnx.ModelProto:
    """Attributes where later opsets have inputs, and a resampling that onnx's converter gets wrong."""
    return build(
        f"""(float[N,3,4,4] x) => (float[N,2,10,10] y) {{
            [c1] a = Conv(x, w1, b1)  u = {op}<mode="linear">(a, scales)
            c = Clip<min=-0.31, max=0.47>(u)  p = Pad<pads=[0,0,1,1,0,0,1,1], value=0.29>(c)
            s = Slice<axes=[1], starts=[0], ends=[3]>(p)  [c2] y = Conv(s, w2)
        }}""",
        {"w1": (4, 3, 1, 1), "b1": (4,), "w2": (2, 3, 1, 1), "scales": np.array([1, 1, 2, 2], np.float32)},
        opset=opset,
    )


def resize_10() -> onnx.ModelProto:
    return build(
        """(float[N,3,4,4] x) => (float[N,2,8,8] y) {
            [c1] a = Conv(x, w1, b1)  u = Resize<mode="linear">(a, scales)  [c2] y = Conv(u, w2)
        }""",
        {"w1": (4, 3, 1, 1), "b1": (4,), "w2": (2, 4, 1, 1), "scales": np.array([1, 1, 2, 2], np.float32)},
        opset=10,
    )


def group_norm_18() -> onnx.ModelProto:
    """Scale and bias one a group, which opset 21 wants one a channel."""
    return build(
        """(float[N,4,5] x) => (float[N,2,5] y) {
            [c1] a = Conv(x, w1)  g = GroupNormalization<num_groups=2>(a, s, b)  [c2] y = Conv(g, w2)
        }""",
        {"w1": (4, 4, 1), "w2": (2, 4, 1), "s": (2,), "b": (2,)},
        opset=18,
    )


def scalar_index() -> onnx.ModelProto:
    """A scalar constant that takes an axis away: as a vector of one it would leave it."""
    return build(
        """(float[N,3,4] x) => (float[N,2] y) {
            [a] h = MatMul(x, w1)  first = Gather<axis=1>(h, index)  [b] y = MatMul(first, w2)
        }""",
        {"w1": (4, 4), "w2": (4, 2), "index": np.array(0)},
    )


def odd_outputs() -> onnx.ModelProto:
    """An output that is a constant, and one that is an input."""
    return build(
        """(float[N,4] x) => (float[N,2] y, float[4,4] k, float[N,4] x) {
            [a] h = MatMul(x, w1)  k = Add(w1, w1)  [b] y = MatMul(h, w2)
        }""",
        {"w1": (4, 4), "w2": (4, 2)},
    )


def sequence() -> onnx.ModelProto:
    """A value between layers that is no tensor."""
    return build(
        """(float[N,4] x) => (float[N,2] y) {
            [a] h = MatMul(x, w1)  s = SplitToSequence<axis=1, keepdims=1>(h, two)
            c = ConcatFromSequence<axis=1>(s)  [b] y = MatMul(c, w2)
        }""",
        {"w1": (4, 4), "w2": (4, 2), "two": np.array(2)},
    )


def infinite_mask() -> onnx.ModelProto:
    """Attention with a causal mask of minus infinity."""
    return build(
        """(float[N,3,4] x) => (float[N,3,4] y) {
            [q] a = MatMul(x, w1)  t = Transpose<perm=[0,2,1]>(x)  [s] s = MatMul(a, t)
            m = Add(s, mask)  p = Softmax<axis=-1>(m)  [v] y = MatMul(p, x)
        }""",
        {"w1": (4, 4), "mask": np.triu(np.full((3, 3), -np.inf, np.float32), 1)},
    )


def finite_mask(masked: float = -1e9) -> onnx.ModelProto:
    """Attention with a causal mask that is a large number."""
    model = infinite_mask()
    mask = next(tensor for tensor in model.graph.initializer if tensor.name == "mask")
    mask.CopyFrom(onnx.numpy_helper.from_array(np.triu(np.full((3, 3), masked, np.float32), 1), "mask"))
    return model


def local_function() -> onnx.ModelProto:
    """A function of the model's own; ONNX Runtime inlines it."""
    return build(
        """(float[N,4] x) => (float[N,4] y) {
            [before] a = MatMul(x, w1)  b = local.twice(a)  [after] y = MatMul(b, w2)
        }
        <domain: "local", opset_import: ["" : 17]> twice (v) => (o) { o = Add(v, v) }""",
        {"w1": (4, 4), "w2": (4, 4)},
        domains=', "local" : 1',
    )


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "chain": chain,
    "residual": residual,
    "three-readers": three_readers,
    "concat": concat,
    "shared-weight": shared_weight,
    "shared-bias": shared_bias,
    "layer-is-output": layer_is_output,
    "two-activations": two_activations,
    "gemm-variants": gemm_variants,
    "matmul-variants": matmul_variants,
    "grouped": grouped,
    "transposed": transposed,
    "conv1d": conv1d,
    "conv3d": conv3d,
    "movers": movers,
    "mover-between": mover_between,
    "lstm": lstm,
    "if-body": if_body,
    "loop-body": loop_body,
    "scan-body": scan_body,
    "transformer": transformer,
    "several-inputs-and-outputs": several_inputs_and_outputs,
    "dynamic-dims": dynamic_dims,
    "fixed-batch": fixed_batch,
    "constant-nodes": constant_nodes,
    "custom-domain": custom_domain,
    "local-function": local_function,
    "scalar-index": scalar_index,
    "odd-outputs": odd_outputs,
    "sequence": sequence,
    "infinite-mask": infinite_mask,
    "finite-mask": finite_mask,
    "upsample-9": lambda: old_resampling("Upsample", 9),
    "resize-10": resize_10,
    "group-norm-18": group_norm_18,
    "opset-9-ir-3": lambda: chain(9, 3, listed=True),
    "opset-7": lambda: chain(7, 3, listed=True),
    "opset-21": lambda: chain(21, 10),
    "opset-23": lambda: transformer(23),
}
"""Every model by name; each is built afresh."""
