"""How much each layer's narrowing alone changes the output of the model that the search starts from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from time import perf_counter
from weakref import WeakValueDictionary

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.execution.machine import Machine
from quant_core.execution.progress import watcher
from quant_core.model.data.batches import Batch, batches, in_row_order
from quant_core.model.data.carried_states import step_data
from quant_core.model.data.sample_outputs import per_sample
from quant_core.model.data.sequences import steps_alone
from quant_core.model.sessions import Numerics
from quant_core.precision import DataType, Precision, PrecisionPlan
from quant_core.probing.incremental import IncrementalModel
from quant_core.probing.losses import LOSSES, Loss, Outputs
from quant_core.quantization.quantizer import Quantizer
from quant_core.quantization.recipe import QuantizationRecipe, quantizer_of
from quant_core.scoring.compared import Compared, probed
from quant_core.scoring.float_outputs import reference_arrays
from quant_core.scoring.sampling import GOLDEN, Samples
from quant_core.storage.data import Column, Dataset
from quant_core.storage.mapped import let_go
from quant_core.storage.schemas import PROBES

__all__ = ["Measurement", "layer_sensitivity", "unrounded_types", "variant_losses"]


def layer_sensitivity(
    recipe: QuantizationRecipe,
    samples: Samples,
    shard: Sequence[str],
    precision: str,
    start_plan: Mapping[str, str],
    loss: str,
    output: int | str,
    batch_size: int | None,
    machine: Machine,
    baseline: pa.Table | None = None,
    tensors: Mapping[str, str] | None = None,
    blocks: Mapping[str, Sequence[str]] | None = None,
    opened_for: Sequence[str] | None = None,
) -> pa.Table:
    """Measure the loss of every sample for each layer of a shard at a narrow precision (schema PROBES).

    A layer that stands for a block is narrowed with all of it. All other layers are as the search starts from. The
    loss is against the output of the model of that plan or, for `l2-float`, against the float outputs.

    Args:
        recipe: what the numbers follow from.
        samples: those to measure on.
        shard: names of the layers to narrow, each alone.
        precision: the precision they are narrowed to.
        start_plan: precisions by layer of the plan that the search starts from.
        loss: a name in LOSSES.
        output: the compared outputs: index, name or `all`.
        batch_size: samples a forward pass, or None for the model's default.
        machine: threads, cache and memory.
        baseline: outputs of the float model, for `l2-float`.
        tensors: types of single tensors in that plan, by name.
        blocks: the layers of each block, by the one that stands for it.
        opened_for: all layers that sessions are cut for, those of the shard among them (they alone): the rounds of a
            race, each of some layers fewer, share their sessions.

    """
    quantizer, start = quantizer_of(recipe, machine), PrecisionPlan.from_dict(start_plan, tensors)
    narrow, listed = Precision.parse(precision), list(opened_for or shard)
    narrowed = [(blocks or {}).get(name, [name]) for name in listed]
    variants = tuple(start.narrowed(dict.fromkeys(names, narrow)) for names in narrowed)
    unrounded = unrounded_types(dict(start.layers)[listed[0]], narrow)
    of = Measurement(samples, loss, output, batch_size, baseline)
    chosen = [listed.index(name) for name in shard]
    losses, seconds = variant_losses(quantizer, start, variants, unrounded, recipe.providers, of, machine, chosen)
    columns = {"layer": list(shard), "precision": [precision] * len(shard), "losses": losses, "seconds": seconds}
    return pa.Table.from_pydict(columns, schema=PROBES)


@dataclass(frozen=True)
class Measurement:
    """What a loss is measured on, and how."""

    samples: Samples
    """The samples."""
    loss: str
    """A name in LOSSES."""
    output: int | str
    """The compared outputs: index, name or `all`."""
    batch_size: int | None
    """Samples a forward pass, or None for the model's default."""
    baseline: pa.Table | None = None
    """Outputs of the float model, where losses are against those; else they are against the plan that is varied."""


def variant_losses(
    quantizer: Quantizer,
    start: PrecisionPlan,
    variants: tuple[PrecisionPlan, ...],
    unrounded: frozenset[DataType],
    providers: tuple[str, ...],
    of: Measurement,
    machine: Machine,
    chosen: Sequence[int] | None = None,
) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Return the losses of some variants of a plan, one array [samples] each in data order, and the seconds of each.

    Args:
        quantizer: where numbers come from.
        start: the plan.
        variants: the plans that differ from it in little.
        unrounded: types that are computed with as if they were float.
        providers: ONNX Runtime's execution providers.
        of: what is measured.
        machine: threads, cache and memory.
        chosen: numbers of the variants that are run (all); the others only take part in how the model is cut.

    """
    dataset = step_data(quantizer.graph, of.samples.data, machine.cache)
    model = _models.of(quantizer, start, variants, unrounded, providers)
    outputs = probed(quantizer.graph, of.output, of.loss)
    names = outputs.names
    floats = None if of.baseline is None else _of_entries(reference_arrays(of.baseline), dataset)
    numbers = list(range(len(variants)) if chosen is None else chosen)
    losses: dict[int, list[NDArray[np.float64]]] = {number: [] for number in numbers}
    seconds = dict.fromkeys(numbers, 0.0)
    samples = of.samples.rows(dataset.samples)
    rows = dataset.rows_of(samples)
    moved = in_row_order(dataset.in_groups(rows))
    groups = model.groups(machine.memory // 2 // _COPIES, numbers)
    for group in groups:
        # Threads that begin at different variants open different sessions, instead of waiting for each other.
        first = int(len(group) * (of.samples.start * GOLDEN % 1))
        order = [*group[first:], *group[:first]]
        for batch in batches(quantizer.graph, dataset, of.batch_size, rows, machine.memory):
            reference = None if floats is None else [floats[name][batch.rows] for name in names]
            for column in (floats or {}).values():
                let_go(column)
            _probe_batch(model, batch, outputs, LOSSES[of.loss], reference, order, losses, seconds)
        if len(groups) > 1:
            model.close(group)
    whole = [np.concatenate(parts) if moved is None else np.concatenate(parts)[moved] for parts in losses.values()]
    return [_of_samples(found, dataset, samples, of.loss) for found in whole], np.array(list(seconds.values()))


def _of_entries(outputs: Mapping[str, Column], data: Dataset) -> Mapping[str, Column]:
    """Return outputs of samples as those of the entries: where these are steps, each as a sequence of one."""
    if data.starts is None:
        return outputs
    return {name: steps_alone(column, (1,)) for name, column in outputs.items()}


def _of_samples(
    losses: NDArray[np.float64], data: Dataset, samples: NDArray[np.intp], loss: str
) -> NDArray[np.float64]:
    """Return the losses of samples, given those of their entries: of a sequence that of all its steps together."""
    if data.starts is None:
        return losses
    counts = np.diff(data.starts)[samples]
    begins = np.cumsum(counts) - counts
    if loss == "l2-float":
        return np.asarray(np.sqrt(np.add.reduceat(np.square(losses), begins)))
    return np.asarray(np.add.reduceat(losses, begins) / counts)


_COPIES = 2
"""Of the weights in a session: as they are given, and as its kernels want them."""

_KEPT_BYTES = 256 << 20
"""Weights in the sessions of shards beyond which those used first are closed once nobody runs them."""


class _Models:
    """The sessions of shards: the tasks that probe one on other samples share them, at once or one after the other.

    Those of one plan's shards are kept: a round goes through all of them, and the next one through most once more.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._used: WeakValueDictionary[Hashable, IncrementalModel] = WeakValueDictionary()
        self._kept: dict[Hashable, IncrementalModel] = {}
        self._plan: Hashable = None

    def of(
        self,
        quantizer: Quantizer,
        start: PrecisionPlan,
        variants: tuple[PrecisionPlan, ...],
        unrounded: frozenset[DataType],
        providers: tuple[str, ...],
    ) -> IncrementalModel:
        """The model of a plan and its variants."""
        key = quantizer, start, variants, unrounded, providers
        with self._lock:
            if self._plan != (quantizer, start):
                self._plan = quantizer, start
                self._kept.clear()
            model = self._used.get(key)
            if model is None:
                model = self._used[key] = IncrementalModel(
                    quantizer, start, variants, Numerics.FAST, unrounded, providers
                )
            self._keep(key, model)
        return model

    def _keep(self, key: Hashable, model: IncrementalModel) -> None:
        """Keep a model as the one used last, and as many of the others as there is room for."""
        self._kept.pop(key, None)
        self._kept[key] = model
        while sum(one.weight_bytes for one in self._kept.values()) > _KEPT_BYTES:
            del self._kept[next(iter(self._kept))]


_models = _Models()


def unrounded_types(wide: Precision, narrow: Precision) -> frozenset[DataType]:
    """The wider activation type, where a probe need not round to it.

    A step of a 16-bit type is a 256th of an 8-bit one's: the loss of a layer narrowed to 8 bits, or of narrower
    weights, is the same with and without, and the pairs take as long as the convolutions between them, which without
    them fuse. Between two 16-bit types the pairs are all there is to a probe.
    """
    kind = wide.activations
    fine = kind.bits == 16 and not kind.is_float
    return frozenset({kind} if fine and (narrow.activations is kind or narrow.activations.bits < 16) else ())


def _probe_batch(
    model: IncrementalModel,
    batch: Batch,
    outputs: Compared,
    loss: Loss,
    reference: Outputs | None,
    variants: Sequence[int],
    losses: Mapping[int, list[NDArray[np.float64]]],
    seconds: dict[int, float],
) -> None:
    runs = model.run(batch.feeds, variants)
    wide, names = next(runs), outputs.names
    against = reference or [per_sample(wide[name], name, batch) for name in names]
    for number in variants:
        began = perf_counter()
        found = next(runs)
        losses[number].append(loss(against, [per_sample(found[name], name, batch) for name in names], outputs))
        seconds[number] += perf_counter() - began
        watcher().advanced("probe", batch.begun)
