"""Whether a file scores in its runtime as its pairs say, within what the samples can tell."""

from __future__ import annotations

import pyarrow as pa

from quant_core.scoring.metrics import METRICS

__all__ = ["scores_differ"]

_ERRORS = 2.0
"""Standard errors that count as a difference."""


def scores_differ(deployed: pa.Table, reference: pa.Table, metric: str) -> bool:
    """Return whether two scores of one file (schema SCORES) differ by more than two standard errors of the reference's.

    A metric of the user's own has no standard error: the L2 distance decides.
    """
    name = metric if metric in METRICS else "l2"
    here, there = METRICS[name](deployed).score, METRICS[name](reference).score
    return not abs(here.value - there.value) <= _ERRORS * (there.standard_error or 0.0)
