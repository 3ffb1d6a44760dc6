"""How many samples each probe gets: few at first, more only where they decide the order.

Layers race. All are probed on a thirty-second of the data, 16 samples at least, and of a small model as many as are
worth a round; those whose place in the ranking is not settled (the paired difference to a neighbour is within two
standard errors) and matters (those errors are more than a hundredth of what all layers lose together) go on, twice as
far each round, up to an eighth, or 256 samples where that is more. Which layers go on depends on the losses alone, so
that a new target finds every probe again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.scoring.sampling import doubling, worth_a_round

__all__ = ["LossEstimate", "loss_estimates", "losses_by_probe", "open_probes", "probe_macs", "sample_rounds"]

Probe = tuple[str, str]
"""Layer name and written precision."""
Losses = Mapping[Probe, NDArray[np.float64]]
"""Loss of each sample, from the first on, by probe."""

_FEWEST, _ENOUGH = 16, 256
_FIRST_SHARE, _LAST_SHARE = 32, 8
_STANDARD_ERRORS = 2.0
_NEGLIGIBLE = 1 / 100


@dataclass(frozen=True)
class LossEstimate:
    """What is known of one probe's mean loss over the whole data."""

    mean: float
    """The estimate."""
    standard_error: float
    """Its standard error over samples."""
    samples: int
    """Samples it was probed on."""


def probe_macs(macs: int, probes: int) -> int:
    """Multiply-accumulates of some probes of a model: each computes what is behind its layer, half of it on average."""
    return macs * probes // 2


def sample_rounds(count: int, samples: Literal["auto", "all"] | int, macs: int = 0) -> list[int]:
    """The numbers of samples after which each round ends, for a data set of `count`.

    `macs` are the multiply-accumulates of all probes for a sample, 0 where they are not known.
    """
    if samples == "all" or (samples == "auto" and count < 2 * _FEWEST):
        return [count]
    if samples != "auto":
        return [min(samples, count)]
    last = max(count // _LAST_SHARE, min(count, _ENOUGH))
    return doubling(max(count // _FIRST_SHARE, _FEWEST, min(worth_a_round(macs), last)), last)


def losses_by_probe(tables: Sequence[pa.Table]) -> dict[Probe, NDArray[np.float64]]:
    """Losses of all rounds by probe; tables of schema PROBES, earlier rounds first."""
    lengths = Counter[Probe]()
    for table in tables:
        for probe, losses in _rows(table):
            lengths[probe] += len(losses)
    # One array for all of them, which the system has back as soon as they are of no more use.
    whole = np.empty(lengths.total())
    starts = dict(zip(lengths, accumulate(lengths.values(), initial=0), strict=False))
    ends = dict(starts)
    for table in tables:
        for probe, losses in _rows(table):
            whole[ends[probe] : ends[probe] + len(losses)] = losses
            ends[probe] += len(losses)
    return {probe: whole[start : ends[probe]] for probe, start in starts.items()}


def _rows(table: pa.Table) -> Iterator[tuple[Probe, NDArray[np.float64]]]:
    """The losses of each probe of a table."""
    names, precisions = (table.column(name).to_pylist() for name in ("layer", "precision"))
    losses = table.column("losses").combine_chunks()
    values, ends = losses.flatten().to_numpy(), losses.offsets.to_numpy() - losses.offsets[0].as_py()
    for probe, (start, end) in zip(zip(names, precisions, strict=True), pairwise(ends), strict=True):
        yield probe, values[start:end]


def open_probes(losses: Losses) -> list[Probe]:
    """Probes still in the race whose place is not settled and matters, in the order given.

    One with an infinite loss, or none, is settled: it is last.
    """
    longest = max(len(values) for values in losses.values())
    racing = [probe for probe, values in losses.items() if len(values) == longest and _is_finite(values)]
    ranked = sorted(racing, key=lambda probe: float(np.sum(losses[probe])))
    # Two layers that change places at the cut change what is lost by their difference, and no more.
    negligible = _NEGLIGIBLE * _lost_together(losses)
    open_places = set()
    for one, other in pairwise(ranked):
        difference = losses[other] - losses[one]
        uncertain = _STANDARD_ERRORS * _error_of_mean(difference)
        if np.mean(difference) <= uncertain and uncertain > negligible:
            open_places |= {one, other}
    return [probe for probe in racing if probe in open_places]


def _lost_together(losses: Losses) -> float:
    """The sum of all layers' mean losses, at one precision."""
    means = [float(np.mean(values)) for values in losses.values() if _is_finite(values)]
    return sum(means) / max(len({precision for _, precision in losses}), 1)


def loss_estimates(losses: Losses) -> dict[Probe, LossEstimate]:
    """Mean losses that can be compared, though not all are over the same samples.

    A probe that left the race early is scaled by how much harder the later samples were for those that went on
    (a ratio estimator; Cochran, Sampling Techniques, 3rd edition, chapter 6).
    """
    longest = max((len(values) for values in losses.values()), default=0)
    whole = [values for values in losses.values() if len(values) == longest and _is_finite(values)]
    common = reduce(np.add, whole, np.zeros(longest))
    estimates = {}
    for probe, values in losses.items():
        early = float(np.mean(common[: len(values)]))
        factor = float(np.mean(common)) / early if early > 0 else 1.0
        mean = float(np.sum(values)) / len(values) * factor
        estimates[probe] = LossEstimate(mean, _error_of_mean(values) * factor, len(values))
    return estimates


def _is_finite(values: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(values).all())


def _error_of_mean(values: NDArray[np.float64]) -> float:
    if not _is_finite(values):
        return math.nan
    return float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
