"""How probes are shared out: which layers, and which samples, make one task."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from quant_core.model.layers import Layer
from quant_core.scoring.sampling import SAMPLES_A_SHARD

__all__ = ["probe_samples", "probe_shards"]

_MACS_PER_ELEMENT = 50
"""What it takes to quantize, dequantize and move a value, as so many multiply-accumulates: small convolutions of large
tensors are bound by memory. Measured in ONNX Runtime 1.32 on two networks; it balances shards and changes no result."""


def probe_shards(layers: Sequence[Layer]) -> list[list[str]]:
    """Split the layers into runs of consecutive ones that take about equally long to probe.

    The split depends on the model alone, so that results are found again whatever the number of workers.
    Each shard repeats one forward pass a batch, against N/2 for the probes themselves: one shard up to 75 layers,
    whose samples are shared out instead (`probe_samples`), then N / 50, and about sqrt(N) / 3 beyond 300.
    """
    forward = [layer.macs + _MACS_PER_ELEMENT * layer.activation_elements for layer in reversed(layers)]
    costs = np.cumsum(forward, dtype=np.float64)[::-1]
    count = 2 * round(min(len(layers) / 100, math.sqrt(len(layers)) / 6)) or 1
    middle = np.cumsum(costs) - costs / 2
    numbers = (
        np.minimum((middle * count / costs.sum()).astype(int), count - 1) if costs.sum() else np.zeros(len(layers))
    )
    shards: list[list[str]] = [[] for _ in range(count)]
    for layer, number in zip(layers, numbers, strict=True):
        shards[int(number)].append(layer.name)
    return [shard for shard in shards if shard]


_PARTS, _GRANULE = 4, 4


def probe_samples(start: int, stop: int, shards: int) -> list[tuple[int, int]]:
    """Split samples [start, stop) into ranges for shards to probe, of equal length but for the last.

    Together with the shards they make at least four tasks, so that as many workers have something to do, unless that
    leaves fewer than 4 samples a range; and a range has SAMPLES_A_SHARD samples at most.
    """
    parts = max(math.ceil(_PARTS / shards), 1)
    step = min(math.ceil(math.ceil((stop - start) / parts) / _GRANULE) * _GRANULE, SAMPLES_A_SHARD)
    return [(first, min(first + step, stop)) for first in range(start, stop, step)]
