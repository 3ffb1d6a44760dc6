"""What the manifest says of one plan."""

from quant_core.model.layers import Layer
from quant_core.pipeline.finished_run.plan_summary import cost_summaries
from quant_core.precision import Precision, PrecisionPlan
from quant_core.search.cost import COUNTED, counted_cost

WIDE, NARROW = (Precision.parse(text) for text in ("a16w8", "a8w8"))
LAYERS = [
    Layer("first", "Conv", (0,), ("x",), ("w1",), ((3, 3),), 1000, 10),
    Layer("second", "MatMul", (1,), ("y", "z"), (), (), 300, 7),
]


def test_the_share_that_is_saved_of_each_cost():
    wide, narrow = (PrecisionPlan.uniform([layer.name for layer in LAYERS], one) for one in (WIDE, NARROW))
    costs = [counted_cost(name, LAYERS, (WIDE, NARROW)) for name in COUNTED]
    summary = cost_summaries(costs, narrow, wide)
    assert {name: entry.saved for name, entry in summary.items()} == {
        "bops": 1 - 83_200 / 204_800,  # where two activations meet, both are narrower
        "bytes": 0.0,
        "activation-bytes": 0.5,
    }
    assert (summary["bops"].wide, summary["bops"].mixed) == (204_800, 83_200)
