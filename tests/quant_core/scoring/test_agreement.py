"""When two scores of one file count as different."""

from __future__ import annotations

import numpy as np
import pytest

from quant_core.scoring.agreement import scores_differ
from quant_core.scoring.terms import sample_terms, terms_table

OUTPUTS = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)


def scored(error: float):
    return terms_table([sample_terms([OUTPUTS], [OUTPUTS + np.float32(error)], None)])


@pytest.mark.parametrize("metric", ["l2", "sqnr_db"])
def test_files_without_any_error_do_not_differ_and_one_with_some_does(metric):
    assert not scores_differ(scored(0), scored(0), metric)
    assert scores_differ(scored(0.5), scored(0), metric)
