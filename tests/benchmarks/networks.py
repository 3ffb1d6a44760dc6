"""Networks of kinds that the image classifiers of `zoo` are not, of a size that computes in seconds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from tests.models import build

__all__ = ["NETWORKS"]

Weights = dict[str, tuple[int, ...] | np.ndarray]


def transformer_block(width: int = 64, heads: int = 4, length: int = 24) -> onnx.ModelProto:
    """Two pre-norm blocks with several heads, a causal mask, and GELU by Erf."""
    size = width // heads
    lines, weights = (
        [],
        {
            "split": np.array([0, 0, heads, size]),
            "join": np.array([0, 0, width]),
            "root": np.float32(size**0.5),
            **{"sqrt2": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)},
            "mask": np.triu(np.full((length, length), -1e9, np.float32), 1),
            "head": (width, 16),
        },
    )
    for i in range(2):
        x, last = (f"x{i}", f"x{i + 1}") if i else ("x", "x1")
        lines.append(f"n{i} = LayerNormalization({x}, g{i}, h{i})")
        for part in "qkv":
            lines.append(
                f"[{part}{i}] {part}m{i} = MatMul(n{i}, w{part}{i})  {part}b{i} = Add({part}m{i}, b{part}{i})"
                f"  {part}r{i} = Reshape({part}b{i}, split)"
            )
            weights |= {f"w{part}{i}": (width, width), f"b{part}{i}": (width,)}
        lines.append(
            f"qt{i} = Transpose<perm=[0,2,1,3]>(qr{i})  kt{i} = Transpose<perm=[0,2,3,1]>(kr{i})"
            f"  vt{i} = Transpose<perm=[0,2,1,3]>(vr{i})  [scores{i}] s{i} = MatMul(qt{i}, kt{i})"
            f"  d{i} = Div(s{i}, root)  e{i} = Add(d{i}, mask)  p{i} = Softmax<axis=-1>(e{i})"
            f"  [mix{i}] m{i} = MatMul(p{i}, vt{i})  t{i} = Transpose<perm=[0,2,1,3]>(m{i})  j{i} = Reshape(t{i}, join)"
            f"  [out{i}] o{i} = MatMul(j{i}, wo{i})  a{i} = Add(o{i}, {x})  l{i} = LayerNormalization(a{i}, gg{i}, hh{i})"
            f"  [up{i}] u{i} = MatMul(l{i}, w1{i})  z{i} = Div(u{i}, sqrt2)  f{i} = Erf(z{i})  y{i} = Add(f{i}, one)"
            f"  v{i} = Mul(u{i}, y{i})  c{i} = Mul(v{i}, half)  [down{i}] r{i} = MatMul(c{i}, w2{i})"
            f"  {last} = Add(r{i}, a{i})"
        )
        ones = np.ones(width, np.float32)
        weights |= {f"wo{i}": (width, width), f"w1{i}": (width, 4 * width), f"w2{i}": (4 * width, width)}
        weights |= {f"g{i}": ones, f"h{i}": (width,), f"gg{i}": ones, f"hh{i}": (width,)}
    body = "  ".join(lines)
    text = f"(float[N,{length},{width}] x) => (float[N,{length},16] y) {{ {body}  [head] y = MatMul(x2, head) }}"
    return build(text, weights)


def unet(levels: int = 3, width: int = 16) -> onnx.ModelProto:
    """Down by strided convolutions, up by ConvTranspose, joined by Concat at each level."""
    lines, weights = (
        ["[stem] a = Conv<pads=[1,1,1,1]>(x, ws, bs)  d0 = Relu(a)"],
        {"ws": (width, 3, 3, 3), "bs": (width,)},
    )
    for i in range(levels):
        inner, outer = width << i, width << (i + 1)
        lines.append(f"[down{i}] e{i} = Conv<pads=[1,1,1,1], strides=[2,2]>(d{i}, wd{i}, bd{i})  d{i + 1} = Relu(e{i})")
        weights |= {f"wd{i}": (outer, inner, 3, 3), f"bd{i}": (outer,)}
    top = f"d{levels}"
    for i in reversed(range(levels)):
        inner, outer = width << i, width << (i + 1)
        lines.append(
            f"[up{i}] u{i} = ConvTranspose<strides=[2,2]>({top}, wu{i}, bu{i})  c{i} = Concat<axis=1>(u{i}, d{i})"
            f"  [join{i}] j{i} = Conv<pads=[1,1,1,1]>(c{i}, wj{i}, bj{i})  k{i} = Relu(j{i})"
        )
        weights |= {
            f"wu{i}": (outer, inner, 2, 2),
            f"bu{i}": (inner,),
            f"wj{i}": (inner, 2 * inner, 3, 3),
            f"bj{i}": (inner,),
        }
        top = f"k{i}"
    text = f"(float[N,3,32,32] x) => (float[N,2,32,32] y) {{ {'  '.join(lines)}  [classes] y = Conv({top}, wc) }}"
    return build(text, weights | {"wc": (2, width, 1, 1)})


def inception() -> onnx.ModelProto:
    """Two blocks of four branches, joined by Concat."""
    lines, weights, channels, x = [], {}, 3, "x"
    for i in range(2):
        lines.append(
            f"[one{i}] a{i} = Conv({x}, wa{i}, ba{i})  ar{i} = Relu(a{i})"
            f"  [reduce{i}] b{i} = Conv({x}, wb{i}, bb{i})  br{i} = Relu(b{i})"
            f"  [three{i}] c{i} = Conv<pads=[1,1,1,1]>(br{i}, wc{i}, bc{i})  cr{i} = Relu(c{i})"
            f"  [five{i}] d{i} = Conv<pads=[2,2,2,2]>(br{i}, wd{i}, bd{i})  dr{i} = Relu(d{i})"
            f"  p{i} = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>({x})  [pooled{i}] e{i} = Conv(p{i}, we{i}, be{i})"
            f"  er{i} = Relu(e{i})  j{i} = Concat<axis=1>(ar{i}, cr{i}, dr{i}, er{i})"
        )
        for name, shape in {"a": (16, channels, 1, 1), "b": (12, channels, 1, 1), "c": (16, 12, 3, 3)}.items():
            weights |= {f"w{name}{i}": shape, f"b{name}{i}": shape[:1]}
        for name, shape in {"d": (8, 12, 5, 5), "e": (8, channels, 1, 1)}.items():
            weights |= {f"w{name}{i}": shape, f"b{name}{i}": shape[:1]}
        channels, x = 48, f"j{i}"
    text = (
        f"(float[N,3,24,24] x) => (float[N,10] y) {{ {'  '.join(lines)}  g = GlobalAveragePool({x})  f = Flatten(g)"
        "  [fc] y = Gemm<transB=1>(f, wf, bf) }"
    )
    return build(text, weights | {"wf": (10, channels), "bf": (10,)})


def conv1d() -> onnx.ModelProto:
    """Dilated convolutions over time with residual sums and gates, as for audio."""
    lines, weights = ["[stem] r0 = Conv<pads=[1,1]>(x, ws, bs)"], {"ws": (32, 4, 3), "bs": (32,)}
    for i in range(4):
        reach = 1 << i
        lines.append(
            f"[filter{i}] f{i} = Conv<dilations=[{reach}], pads=[{reach},{reach}]>(r{i}, wf{i}, bf{i})  t{i} = Tanh(f{i})"
            f"  [gate{i}] g{i} = Conv<dilations=[{reach}], pads=[{reach},{reach}]>(r{i}, wg{i}, bg{i})"
            f"  s{i} = Sigmoid(g{i})  m{i} = Mul(t{i}, s{i})  [mix{i}] o{i} = Conv(m{i}, wm{i}, bm{i})"
            f"  r{i + 1} = Add(o{i}, r{i})"
        )
        for name, kernel in (("f", 3), ("g", 3), ("m", 1)):
            weights |= {f"w{name}{i}": (32, 32, kernel), f"b{name}{i}": (32,)}
    text = f"(float[N,4,256] x) => (float[N,8,256] y) {{ {'  '.join(lines)}  z = Relu(r4)  [out] y = Conv(z, wo, bo) }}"
    return build(text, weights | {"wo": (8, 32, 1), "bo": (8,)})


def lstm() -> onnx.ModelProto:
    """Convolutions over time, an LSTM that stays in float, and a classifier."""
    return build(
        """(float[N,6,64] x) => (float[N,12] y) {
            [c1] a = Conv<pads=[2,2], strides=[2]>(x, w1, b1)  ar = Relu(a)
            [c2] b = Conv<pads=[1,1]>(ar, w2, b2)              br = Relu(b)
            t = Transpose<perm=[2,0,1]>(br)                    all, last = LSTM<hidden_size=32>(t, w, u, bias)
            s = Squeeze(last, axis)  [fc1] h = Gemm<transB=1>(s, w3, b3)  hr = Relu(h)  [fc2] y = Gemm<transB=1>(hr, w4, b4)
        }""",
        {
            **{"w1": (24, 6, 5), "b1": (24,), "w2": (32, 24, 3), "b2": (32,), "axis": np.array([0])},
            **{"w": (1, 128, 32), "u": (1, 128, 32), "bias": (1, 256)},
            **{"w3": (48, 32), "b3": (48,), "w4": (12, 48), "b4": (12,)},
        },
    )


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "transformer-block": transformer_block,
    "unet": unet,
    "inception": inception,
    "conv1d": conv1d,
    "lstm-conv": lstm,
}
"""By name; each is built afresh."""
