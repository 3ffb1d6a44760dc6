"""Whether a file scores in its runtime as its pairs say, within what the samples can tell."""

from __future__ import annotations

import pyarrow as pa

from quant_core.scoring.metrics import METRICS
from quant_core.scoring.sampling import visit_order

__all__ = ["scores_differ"]

_ERRORS = 2.0
"""Standard errors that count as a difference."""


def scores_differ(deployed: pa.Table, reference: pa.Table, metric: str) -> bool:
    """Return whether two scores of one file (schema SCORES) differ by more than two standard errors of the reference's.

    The reference may be of the first samples visited only; then it is these that are compared. A metric of the user's
    own, or of their evaluator, has no standard error: the L2 distance decides.
    """
    count, seen = deployed.num_rows, reference.num_rows
    if seen < count:
        deployed = deployed.take(visit_order(count, 0, seen))
    name = metric if metric in METRICS else "l2"
    here, there = METRICS[name](deployed).score, METRICS[name](reference).score
    if here.value == there.value:  # infinite, both: neither file errs
        return False
    return not abs(here.value - there.value) <= _ERRORS * (there.standard_error or 0.0)
