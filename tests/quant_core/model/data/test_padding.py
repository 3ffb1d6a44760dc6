"""Places of sequences that are padding, and sums that are taken without them."""

from __future__ import annotations

import numpy as np
import pytest

from quant_core.config import QuantizationConfig
from quant_core.model.data.batches import batches
from quant_core.model.data.fitted_data import model_data
from quant_core.model.data.padding import Padding, rows_of
from quant_core.quantization.rounding.weight_rounding import rounded_weights
from quant_core.storage.data import refer_data
from quant_core.storage.tables import content_digest, facts
from tests.models import build
from tests.quant_core.workbench import bench

SAMPLES, PLACES, WORDS = 12, 6, 20


def made(folder, pooled: str, lengths):
    """Word vectors, one product, and a sum over the places that `pooled` says."""
    model = build(
        f"""(int64[N,{PLACES}] ids, int64[N,{PLACES}] mask) => (float[N,3] y) {{
            axis = Constant<value_ints=[2]>()  places = Constant<value_ints=[1]>()
            real = Cast<to=1>(mask)  weight = Unsqueeze(real, axis)
            e = Gather(table, ids)  [product] h = MatMul(e, w)
            masked = Mul(h, weight)  y = ReduceSum<keepdims=0>({pooled}, places)
        }}""",
        {"table": (WORDS, 8), "w": (8, 3)},
    )
    return bench(model, folder, feeds(lengths))


def feeds(lengths, seed=0, padding_seed=0):
    real = np.arange(PLACES) < np.asarray(lengths)[:, None]
    words, others = (np.random.default_rng(one).integers(0, WORDS, real.shape) for one in (seed, 100 + padding_seed))
    return {"ids": np.where(real, words, others), "mask": real.astype(np.int64)}


MIXED = [1 + one % PLACES for one in range(SAMPLES)]


@pytest.mark.parametrize(
    ("pooled", "lengths", "found"),
    [("masked", MIXED, "mask"), ("h", MIXED, None), ("masked", [PLACES] * SAMPLES, None)],
    ids=["masked", "not masked", "nothing to mask"],
)
def test_an_input_says_what_is_padding_where_outputs_do_not_depend_on_it(pooled, lengths, found, tmp_path):
    bed = made(tmp_path, pooled, lengths)
    data = model_data(bed.graph, refer_data(bed.feeds, bed.machine.cache), bed.machine.cache)
    padding = Padding.of(bed.graph, data)
    assert padding.input == found
    batch = next(iter(batches(bed.graph, data)))
    rows = rows_of(padding.real_places(batch), (SAMPLES, PLACES, 8))
    assert (rows is None) == (found is None)
    assert rows is None or len(rows) == sum(lengths)
    assert rows_of(padding.real_places(batch), (SAMPLES, 4, 8)) is None


def test_what_is_padding_or_left_out_changes_no_weight(tmp_path):
    bed = made(tmp_path, "masked", MIXED)

    def digest(given, left_out=()):
        data, config = refer_data(given, bed.machine.cache), QuantizationConfig(round_weights="gptq")
        table = rounded_weights(bed.layer_table, data, "4", False, None, config, None, bed.machine, left_out)
        return content_digest(table), facts(table)["columns"]["product"]

    plain, others = feeds(MIXED), feeds(MIXED, seed=1)
    assert digest(plain) == digest(feeds(MIXED, padding_seed=1))
    assert digest(plain)[1] == [sum(MIXED), 8]
    mixed = {name: np.concatenate([plain[name][:6], others[name][6:]]) for name in plain}
    assert digest(plain) != digest(mixed)
    last = tuple(range(6, SAMPLES))
    assert digest(plain, last) == digest(mixed, last)
