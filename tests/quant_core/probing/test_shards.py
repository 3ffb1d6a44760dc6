"""How probes are shared out among tasks."""

import onnx
import pytest

from quant_core.model.graph import FloatGraph
from quant_core.model.layers import find_layers
from quant_core.probing.shards import probe_samples, probe_shards
from tests.models import build


@pytest.mark.parametrize(("layers", "shards"), [(1, 1), (50, 1), (100, 2), (200, 4), (400, 6)])
def test_shards_grow_slower_than_the_probes(tmp_path, layers, shards):
    """A shard repeats the wide model's pass; where there is one, its samples are what workers share out."""
    steps = " ".join(f"[l{i}] x{i + 1} = MatMul(x{i}, w{i})" for i in range(layers))
    weights = {f"w{i}": (2, 2) for i in range(layers)}
    model = build(f"(float[N,2] x0) => (float[N,2] x{layers}) {{ {steps} }}", weights)
    found = find_layers(FloatGraph(onnx.shape_inference.infer_shapes(model), tmp_path))
    split = probe_shards(found)
    assert len(split) == shards
    assert [name for shard in split for name in shard] == [layer.name for layer in found]


@pytest.mark.parametrize(
    ("start", "stop", "shards", "lengths"),
    [
        (0, 8, 1, [4, 4]),
        (125, 250, 1, [32, 32, 32, 29]),
        (0, 2000, 1, [500] * 4),
        (0, 2000, 2, [1000, 1000]),
        (0, 500, 6, [500]),
        (0, 5000, 6, [1024, 1024, 1024, 1024, 904]),
        (3, 4, 1, [1]),
    ],
)
def test_samples_are_shared_out_where_shards_are_few(start, stop, shards, lengths):
    ranges = probe_samples(start, stop, shards)
    assert [last - first for first, last in ranges] == lengths
    assert [at for pair in ranges for at in pair][1:-1] == [at for first, _ in ranges[1:] for at in (first, first)]
    assert (ranges[0][0], ranges[-1][1]) == (start, stop)
