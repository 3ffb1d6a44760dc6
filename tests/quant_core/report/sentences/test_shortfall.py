"""The line that says by how much a target or a budget is missed."""

import math

import pytest

from quant_core.config import config_from
from quant_core.manifest import CostSummary
from quant_core.precision import PrecisionPlan
from quant_core.report.sentences.shortfall import missed_budgets, missed_target, unsure_of_target

TARGET = {"metric": "l2", "limit": 0.5}
PLAIN = config_from(target=TARGET)
ALL_WIDE = PrecisionPlan.from_dict({"conv": "a16w8", "dense": "a16w8"})
LIFTED = PrecisionPlan.from_dict({"conv": "a16w8", "dense": "float32"})
WITHIN = config_from(target=TARGET, max_bops=0.4)
WITHIN_BOTH = config_from(target=TARGET, max_bops=0.4, max_bytes="3kB")
BOPS = CostSummary(unit="bit operations", wide=1e7, mixed=5e6, saved=0.5)
BYTES = CostSummary(unit="bytes", wide=1e4, mixed=2e3, saved=0.8)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            missed_target(PLAIN, 0.75, ALL_WIDE),
            "even the wide model (a16w8) misses l2 <= 0.5: it scores 0.75, off by 0.25",
        ),
        (
            missed_target(PLAIN, 0.75, LIFTED),
            "even the model with its layers at float32, above a16w8, misses l2 <= 0.5: it scores 0.75, off by 0.25",
        ),
        (
            missed_target(WITHIN, 0.75, ALL_WIDE),
            "the best plan found within bops <= 0.4 of the wide model misses l2 <= 0.5: it scores 0.75, off by 0.25",
        ),
        (
            missed_target(PLAIN, math.nan, ALL_WIDE),
            "even the wide model (a16w8) computes a NaN in an output that is compared, where the float model has none",
        ),
        (
            unsure_of_target(PLAIN, 0.45, 0.55, 12_000, ALL_WIDE),
            "even the wide model (a16w8) does not surely meet l2 <= 0.5: it scores 0.45, but could be 0.55 on other samples; "
            "about 12,000 evaluation samples would settle it",
        ),
        (
            unsure_of_target(PLAIN, 0.5, 0.55, None, ALL_WIDE),
            "even the wide model (a16w8) does not surely meet l2 <= 0.5: it scores 0.5, but could be 0.55 on other samples; "
            "it is right at the limit",
        ),
        (
            missed_budgets(WITHIN, {"bops": BOPS}),
            "no plan is within bops <= 0.4 of the wide model: the least that the model can cost at these precisions "
            "is 5e+06 bit operations, 0.5 of the wide model's",
        ),
        (
            missed_budgets(WITHIN_BOTH, {"bops": BOPS, "bytes": BYTES}),
            "no plan is within bops <= 0.4 of the wide model and bytes <= 3kB: the plan nearest to that costs 5e+06 bit "
            "operations, 0.5 of the wide model's, and 2000 bytes, 0.2 of the wide model's",
        ),
    ],
    ids=["target", "lifted", "target within a budget", "a NaN", "not sure", "at the limit", "budget", "budgets"],
)
def test_what_is_missed_is_said_in_one_line(line, said):
    assert line == said
