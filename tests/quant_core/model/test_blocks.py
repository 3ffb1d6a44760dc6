from __future__ import annotations

from pathlib import Path

import onnx

from quant_core.model.blocks import blocks_by_name, blocks_in_graph
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import Layer, find_layers
from tests.models import build


def found(body: str, weights: dict[str, tuple[int, ...]]):
    graph = FloatGraph(onnx.shape_inference.infer_shapes(build(body, weights)), Path())
    return blocks_in_graph(graph, find_layers(graph))


def names(blocks):
    return ["".join(block) for block in blocks]


def conv(name: str, given: str, made: str) -> str:
    return f"[{name}] {made} = Conv <pads=[1,1,1,1]> ({given}, w{name}) "


def network(nodes: str, layers: str):
    body = f"(float[N,4,6,6] x) => (float[N,4,6,6] y) {{ {nodes} }}"
    return names(found(body, {f"w{name}": (4, 4, 3, 3) for name in layers}))


def test_a_residual_block_is_one_with_or_without_a_layer_on_its_short_way():
    plain = conv("a", "x", "t") + conv("b", "t", "u") + conv("c", "u", "v") + "p = Add(v, t) "
    shortened = conv("d", "p", "q") + conv("e", "q", "r") + conv("f", "p", "s") + "m = Add(r, s) "
    assert network(plain + shortened + conv("g", "m", "y"), "abcdefg") == ["a", "bc", "def", "g"]


def test_what_lies_between_two_blocks_is_one_of_their_size():
    first = conv("a", "x", "t") + conv("b", "t", "u") + "p = Add(u, x) "
    between = conv("c", "p", "q") + conv("d", "q", "r") + conv("e", "r", "s")
    last = conv("f", "s", "v") + conv("g", "v", "z") + "y = Add(z, s) "
    assert network(first + between + last, "abcdefg") == ["ab", "cd", "e", "fg"]


def test_a_network_without_residual_blocks_has_single_layers():
    nodes = conv("a", "x", "t") + conv("b", "t", "u") + conv("c", "u", "y")
    assert network(nodes, "abc") == ["a", "b", "c"]


def attention(number: int, given: str, made: str) -> str:
    name = f"{number}"
    parts = [f"[{one}{name}] {one}{name}t = MatMul({given}, w{one}{name}) " for one in "qkv"]
    parts += [f"k{name}r = Transpose <perm=[0,2,1]> (k{name}t) [s{name}] s{name}t = MatMul(q{name}t, k{name}r) "]
    parts += [f"m{name} = Add(s{name}t, hidden) p{name} = Softmax <axis=-1> (m{name}) "]
    parts += [f"[c{name}] c{name}t = MatMul(p{name}, v{name}t) o{name} = Add(c{name}t, {given}) "]
    return "".join(parts) + (
        f"[f{name}] f{name}t = MatMul(o{name}, wf{name}) g{name} = Relu(f{name}t) "
        f"[h{name}] h{name}t = MatMul(g{name}, wh{name}) {made} = Add(h{name}t, o{name}) "
    )


def test_attention_and_feed_forward_are_a_block_each_though_all_add_one_mask():
    nodes = "hidden = Log(mask) " + attention(1, "x", "z") + attention(2, "z", "y")
    body = f"(float[N,5,4] x, float[N,5,5] mask) => (float[N,5,4] y) {{ {nodes} }}"
    blocks = found(body, {f"w{one}{number}": (4, 4) for one in "qkvfh" for number in (1, 2)})
    assert [sorted(block) for block in blocks] == [
        ["c1", "k1", "q1", "s1", "v1"],
        ["f1", "h1"],
        ["c2", "k2", "q2", "s2", "v2"],
        ["f2", "h2"],
    ]


def test_a_mask_made_as_long_as_the_sentences_makes_no_block_of_what_it_is_added_to():
    mask = "s = Shape(x) zero = ConstantOfShape(s) hidden = ReduceSum <keepdims=1> (zero, axis) "
    body = "(float[N,5,4] given) => (float[N,5,4] y) { axis = Constant <value_ints=[2]> () x = Log(given) "
    weights = {f"w{one}1": (4, 4) for one in "qkvfh"}
    blocks = found(body + mask + attention(1, "x", "y") + "}", weights)
    assert [sorted(block) for block in blocks] == [["c1", "k1", "q1", "s1", "v1"], ["f1", "h1"]]


def test_blocks_by_name_end_at_the_first_numbered_part():
    told = ["/f/f.3/c/c.0/Conv", "/f/f.3/c/c.1/Conv", "/f/f.4/c/c.0/Conv", "/head"]
    layers = [Layer(name, "Conv", (0,), ("x",), ("w",), ((1, 1),), 1, 1) for name in told]
    assert blocks_by_name(layers) == [told[:2], told[2:3], told[3:]]
