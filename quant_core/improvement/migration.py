"""Moves the spread of what matrix products read into their weights, channel by channel.

Xiao et al., "SmoothQuant: Accurate and efficient post-training quantization for large language models" (ICML 2023).
Where a few channels of a tensor are much larger than the others, one scale for all of them is coarse. Each channel is
divided by a factor and the rows of the weights that it meets are multiplied by it: what the model computes stays as it
was, up to rounding. With m the largest magnitude of the channel in the tensor and u that in the weights, the factor is
m^share / u^(1 - share).

The share is the one of least expected error of the products' results at a precision, by the variance of rounding (a
twelfth of a step squared): steps follow from the largest magnitudes, so it is known without a run. Where that
expectation promises little, the tensor stays as it is.

The division goes into the scale and the bias of the LayerNormalization that writes the tensor where nothing else reads
it; elsewhere it is a Mul.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce

import numpy as np
import onnx
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.execution.machine import Machine
from quant_core.execution.parallel import ordered_map
from quant_core.execution.progress import watcher
from quant_core.model.data.batches import Batch, batches
from quant_core.model.data.carried_states import step_data
from quant_core.model.data.padding import Padding, RealPlaces, rows_of
from quant_core.model.graph import FloatGraph, attribute, free_name
from quant_core.model.layers import Layer, layer_table, layers_from_table
from quant_core.model.prepared_model import prepared_graph, publish_prepared
from quant_core.model.sessions import Session, open_nodes
from quant_core.precision import DataType, Precision
from quant_core.storage.references import Reference
from quant_core.storage.tables import facts, with_facts

__all__ = ["Channels", "Site", "best_factors", "migrated_model"]

Values = NDArray[np.float64]

_SHARES = np.arange(11) / 10
_WORTH_IT = 0.7
"""The expected error, as a share of what it is without, that an operator more is worth."""


@dataclass(frozen=True)
class Site:
    """A tensor and the products that read it."""

    tensor: str
    """Its name."""
    layers: tuple[Layer, ...]
    """The layers, each one MatMul or Gemm with a weight of its own on the right."""


@dataclass(frozen=True)
class Channels:
    """What calibration saw of a tensor, by channel along its last axis."""

    low: Values
    """Smallest values, or 0."""
    high: Values
    """Largest values, or 0."""
    squares: Values
    """Sums of squares."""
    count: int
    """Values of each channel."""

    def __add__(self, other: Channels) -> Channels:
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return Channels(low, high, self.squares + other.squares, self.count + other.count)

    @property
    def largest(self) -> Values:
        """Largest magnitudes."""
        return np.maximum(-self.low, self.high)

    @classmethod
    def of(cls, values: NDArray[np.generic], real: RealPlaces | None = None) -> Channels:
        """Channels of a tensor; its squares are summed over real places."""
        rows = np.asarray(values, np.float32).reshape(-1, values.shape[-1])
        low, high = (end(axis=0, initial=0).astype(np.float64) for end in (rows.min, rows.max))
        kept = rows_of(real, values.shape)
        summed = rows if kept is None else rows[kept]
        return cls(low, high, np.square(summed, dtype=np.float64).sum(axis=0), len(summed))

    def step(self, factors: Values, dtype: DataType, symmetric: bool) -> float:
        """Return the step of the tensor in a type, each channel divided by a factor."""
        smallest, largest = dtype.code_range
        if symmetric and dtype.signed:
            return float((self.largest / factors).max() / largest)
        return float(((self.high / factors).max() - (self.low / factors).min()) / (largest - smallest))


def migrated_model(
    layers: pa.Table, data: Reference, precision: str, symmetric: bool, batch_size: int | None, machine: Machine
) -> pa.Table:
    """Write the prepared model with factors for a precision, and return its layer table (schema LAYERS).

    The facts hold `migrated`, for each tensor that has factors the expected error as a share of that without, and
    `migrated_layers`, the layers that read them. A model of more than 1 GiB of weights stays as it is.
    With `symmetric`, signed activation types have zero point 0.
    """
    graph = prepared_graph(layers, machine.cache)
    listed = layers_from_table(layers)
    sites = [] if graph.is_large else _sites(graph, listed)
    seen = _seen(graph, sites, data, batch_size, machine) if sites else {}
    wanted = Precision.parse(precision)
    found = {site: best_factors(_weights(graph, site), seen[site.tensor], wanted, symmetric) for site in sites}
    chosen = {site: factors for site, (factors, share) in found.items() if share < _WORTH_IT}
    if not chosen:
        return with_facts(layers, migrated={})
    model, constants = _rewritten(graph, chosen)
    digest = publish_prepared(model, graph.folder, constants, machine.cache)
    places = {node.name: index for index, node in enumerate(model.graph.node)}
    moved = [_moved(layer, graph, model, places) for layer in listed]
    told = {site.tensor: share for site, (_, share) in found.items() if site in chosen}
    names = [layer.name for site in chosen for layer in site.layers]
    known = {**facts(layers), "prepared": digest, "migrated": told, "migrated_layers": names}
    return with_facts(layer_table(moved), **known)


def _sites(graph: FloatGraph, layers: Sequence[Layer]) -> list[Site]:
    """Every tensor that products with weights of their own read, in the order of the first of them."""
    found: dict[str, list[Layer]] = {}
    for layer in layers:
        node = graph.nodes[layer.nodes[0]]
        if len(layer.nodes) == 1 and _is_product(graph, layer, node):
            found.setdefault(node.input[0], []).append(layer)
    return [Site(tensor, tuple(readers)) for tensor, readers in found.items()]


def _is_product(graph: FloatGraph, layer: Layer, node: onnx.NodeProto) -> bool:
    if node.op_type not in ("MatMul", "Gemm") or attribute(node, "transA", 0) or node.input[1] != layer.weight:
        return False
    return len(layer.weight_shape) == 2 and len(graph.readers[node.input[1]]) == 1


def _seen(
    graph: FloatGraph, sites: Sequence[Site], data: Reference, batch_size: int | None, machine: Machine
) -> dict[str, Channels]:
    """Run the float model on all samples."""
    names = [site.tensor for site in sites]
    session = open_nodes(graph, graph.nodes, [name for name in names if name not in graph.inputs], {})
    dataset = step_data(graph, data, machine.cache)
    watcher().expects("migrate", dataset.count)
    every = batches(graph, dataset, batch_size, memory=machine.memory)
    found = ordered_map(partial(_channels, session, names, Padding.of(graph, dataset)), every, machine.workers)
    return reduce(lambda one, other: {name: one[name] + other[name] for name in names}, found)


def _channels(session: Session, names: Sequence[str], padding: Padding, batch: Batch) -> dict[str, Channels]:
    values = {**batch.feeds, **session(batch.feeds)}
    watcher().advanced("migrate", batch.count)
    real = padding.real_places(batch)
    return {name: Channels.of(values[name], real) for name in names}


def _weights(graph: FloatGraph, site: Site) -> Values:
    """The weights of a site side by side, [channels, outputs of all of them]."""
    return np.concatenate([_as_columns(graph, layer) for layer in site.layers], axis=1)


def _as_columns(graph: FloatGraph, layer: Layer) -> Values:
    values = np.asarray(graph.constant(str(layer.weight)), np.float64)
    return values.T if attribute(graph.nodes[layer.nodes[0]], "transB", 0) else values


def best_factors(weights: Values, seen: Channels, precision: Precision, symmetric: bool) -> tuple[Values, float]:
    """Return the factors of least expected error at a precision, and that error as a share of the one without.

    `weights` are [channels, outputs].
    """
    without = _expected_error(weights, seen, np.ones(len(weights)), precision, symmetric)
    ends = np.maximum(seen.largest, 1e-5 * seen.largest.max(initial=1e-30)), np.abs(weights).max(axis=1)
    largest, heaviest = ends[0], np.maximum(ends[1], 1e-5 * ends[1].max(initial=1e-30))
    tried = [largest**share / heaviest ** (1 - share) for share in _SHARES]
    tried = [factors / np.exp(np.log(factors).mean()) for factors in tried]
    errors = [_expected_error(weights, seen, factors, precision, symmetric) for factors in tried]
    best = int(np.argmin(errors))
    return tried[best], errors[best] / without if without else 1.0


def _expected_error(weights: Values, seen: Channels, factors: Values, precision: Precision, symmetric: bool) -> float:
    """Return the variance of all results, up to a factor, that rounding what is read and the weights brings."""
    scaled = weights * factors[:, None]
    reading = seen.step(factors, precision.activations, symmetric)
    steps = np.abs(scaled).max(axis=0) / precision.weights.code_range[1]
    read = np.sum(seen.squares / factors**2) / seen.count
    return float(reading**2 * np.sum(scaled**2) + np.sum(steps**2) * read)


def _rewritten(
    graph: FloatGraph, chosen: Mapping[Site, Values]
) -> tuple[onnx.ModelProto, dict[str, NDArray[np.float32]]]:
    """The model with factors, and its constants that are new or changed."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    constants: dict[str, NDArray[np.float32]] = {}
    taken = {*graph.initializers, *graph.producer, *graph.inputs, *(node.name for node in graph.nodes)}
    for site, factors in chosen.items():
        for layer in site.layers:
            columns = _as_columns(graph, layer) * factors[:, None]
            transposed = attribute(graph.nodes[layer.nodes[0]], "transB", 0)
            constants[str(layer.weight)] = (columns.T if transposed else columns).astype(np.float32)
        norm = _own_norm(graph, site)
        if norm is not None:
            for name in norm.input[1:3]:
                constants[name] = (np.asarray(graph.constant(name), np.float64) / factors).astype(np.float32)
            continue
        result, divisor = (free_name(f"{site.tensor}/{what}", taken) for what in ("migrated", "migration"))
        constants[divisor] = (1 / factors).astype(np.float32)
        _insert(graph, model, site, divisor, result)
    return model, constants


def _own_norm(graph: FloatGraph, site: Site) -> onnx.NodeProto | None:
    """The LayerNormalization that writes a tensor for these layers alone, with a scale and a bias of its own."""
    readers = {index for index, _ in graph.readers[site.tensor]}
    writer = graph.producer.get(site.tensor)
    alone = readers == {layer.nodes[0] for layer in site.layers} and site.tensor not in graph.named_outside
    if writer is None or not alone or graph.nodes[writer].op_type != "LayerNormalization":
        return None
    node = graph.nodes[writer]
    parts = node.input[1:3]
    own = all(graph.is_float_constant(name) and len(graph.readers[name]) == 1 for name in parts)
    sizes = {math.prod(size or 1 for size in graph.shape(name) or ()) for name in parts if own}
    return node if sizes == {len(_as_columns(graph, site.layers[0]))} else None


def _insert(graph: FloatGraph, model: onnx.ModelProto, site: Site, divisor: str, result: str) -> None:
    """Put a Mul between a tensor and the layers that read it."""
    node = onnx.helper.make_node("Mul", [site.tensor, divisor], [result], name=f"{result}/Mul")
    names = {layer.name for layer in site.layers}
    first = min(at for at, other in enumerate(model.graph.node) if other.name in names)
    for other in model.graph.node:
        if other.name in names:
            other.input[0] = result
    model.graph.node.insert(first, node)
    if (known := graph.values.get(site.tensor)) is not None:
        value = model.graph.value_info.add()
        value.CopyFrom(known)
        value.name = result


def _moved(layer: Layer, graph: FloatGraph, model: onnx.ModelProto, places: Mapping[str, int]) -> Layer:
    """A layer as it is in the new model."""
    nodes = tuple(places[graph.nodes[index].name] for index in layer.nodes)
    pairs = zip(layer.nodes, nodes, strict=True)
    renamed = {
        before: after
        for old, new in pairs
        for before, after in zip(graph.nodes[old].input, model.graph.node[new].input, strict=True)
    }
    return replace(layer, nodes=nodes, activations=tuple(renamed.get(name, name) for name in layer.activations))
