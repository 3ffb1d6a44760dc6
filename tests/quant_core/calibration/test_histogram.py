"""The histogram that merges exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from quant_core.calibration.histogram import BINS, Histogram, histogram_table, histograms_from_table
from quant_core.storage.tables import from_ipc, to_ipc

# Every finite float32, denormals and both zeros among them; ordinary ones too, so that bins are shared.
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.floats(-4, 4, width=32)
arrays = hnp.arrays(np.float32, st.integers(1, 40), elements=numbers)

SPECIAL = {
    "one value": [3.5],
    "only zeros": [0.0, 0.0],
    "both zeros": [-0.0, 0.0, -0.0],
    "negative zero": [-0.0],
    "denormals": [1e-45, -1e-45, 3e-40],
    "largest": [3.4028235e38, -3.4028235e38],
    "largest and a denormal below zero": [3.4028235e38, -1e-45],
    "all negative": [-3.0, -2.0, -2.5],
    "powers of two": [1.0, 2.0, 4.0, 0.5, -1.0, -2.0],
    "just below a power of two": [1.9999999, 1.0],
    "far from zero": [1000.0, 1000.001],
    "sixty orders apart": [1e30, 1e-30, -1e-30],
}


def array(*values):
    return np.array(values, np.float32)


def image(histogram):
    """Everything a histogram says, to the bit."""
    return to_ipc(histogram_table({"t": histogram}))


@pytest.mark.parametrize("values", SPECIAL.values(), ids=SPECIAL.keys())
def test_every_value_is_in_its_bin(values):
    histogram = Histogram.of(array(*values))
    bins = np.floor(np.array(values, np.float32).astype(np.longdouble) / np.ldexp(np.longdouble(1), histogram.exponent))
    for bin_number in np.unique(bins).astype(int):
        assert histogram.counts[bin_number - histogram.first_bin] == np.sum(bins == bin_number)
    assert histogram.count == len(values)
    assert (histogram.low, histogram.high) == (min(array(*values)), max(array(*values)))


@pytest.mark.parametrize("values", SPECIAL.values(), ids=SPECIAL.keys())
@pytest.mark.parametrize("others", SPECIAL.values(), ids=SPECIAL.keys())
def test_special_values_merge_to_the_histogram_of_all(values, others):
    parts = [array(*values), array(*others)]
    assert image(Histogram.of(parts[0]).merge(Histogram.of(parts[1]))) == image(Histogram.of(np.concatenate(parts)))


@given(arrays, arrays)
def test_merging_is_the_histogram_of_the_concatenation(one, other):
    assert image(Histogram.of(one).merge(Histogram.of(other))) == image(Histogram.of(np.concatenate([one, other])))


@given(arrays, arrays)
def test_merging_commutes(one, other):
    a, b = Histogram.of(one), Histogram.of(other)
    assert image(a.merge(b)) == image(b.merge(a))


@given(arrays, arrays, arrays)
def test_merging_is_associative(one, other, third):
    a, b, c = map(Histogram.of, (one, other, third))
    assert image(a.merge(b).merge(c)) == image(a.merge(b.merge(c)))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_large_array_is_the_sum_of_its_parts(scale):
    """Larger than the blocks it is binned in, and not a multiple of them."""
    values = (np.random.default_rng(0).standard_normal(200_003) * scale).astype(np.float32)
    merged = Histogram.of(values[:1])
    for part in np.array_split(values[1:], 7):
        merged = merged.merge(Histogram.of(part))
    whole = Histogram.of(values)
    assert image(whole) == image(merged)
    counts, _ = np.histogram(values.astype(np.float64), bins=whole.edges)
    np.testing.assert_array_equal(whole.counts, counts)


def test_the_layout_of_the_array_does_not_matter():
    values = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    assert image(Histogram.of(values)) == image(Histogram.of(values.transpose(2, 0, 1)))
    assert image(Histogram.of(values)) == image(Histogram.of(np.concatenate([values, values], 2)[..., :5]))


@given(arrays)
def test_the_array_is_left_as_it_is(values):
    before = values.copy()
    values.flags.writeable = False
    Histogram.of(values)
    np.testing.assert_array_equal(values, before)


@given(arrays)
def test_edges_enclose_the_values_in_few_bins(values):
    histogram = Histogram.of(values)
    assert histogram.edges[0] <= histogram.low <= histogram.high <= histogram.edges[-1]
    assert len(histogram.edges) == len(histogram.counts) + 1 <= 2 * BINS + 2
    assert histogram.counts[0] > 0 < histogram.counts[-1]


@given(arrays, st.floats(0, 1))
def test_a_quantile_is_within_a_bin_of_the_exact_one(values, share):
    histogram = Histogram.of(values)
    ordered, width = np.sort(values.astype(np.float64)), np.ldexp(1.0, histogram.exponent)
    # Between the neighbouring order statistics, whose share is just below and just above what was asked.
    below = ordered[max(int(np.ceil(share * len(values) - 1e-9)) - 1, 0)]
    above = ordered[min(int(np.floor(share * len(values) + 1e-9)), len(values) - 1)]
    assert below - width <= histogram.quantile(share) <= above + width


@given(arrays, st.floats(0, 1), st.floats(0, 1))
def test_quantiles_stay_in_range_and_in_order(values, one, other):
    histogram = Histogram.of(values)
    small, large = (histogram.quantile(share) for share in sorted((one, other)))
    assert histogram.low <= small <= large <= histogram.high


@settings(max_examples=30)
@given(st.dictionaries(st.text(max_size=5), arrays, max_size=4))
def test_a_table_reads_back(found):
    table = histogram_table({name: Histogram.of(values) for name, values in found.items()})
    again = histograms_from_table(table)
    assert list(again) == list(found)
    assert to_ipc(histogram_table(again)) == to_ipc(table)
    assert table.column("count").to_pylist() == [len(values) for values in found.values()]


@pytest.mark.parametrize(
    ("most", "kind"), [(1, "uint32"), (2**32 - 1, "uint32"), (2**32, "int64"), (2**53 + 1, "int64")]
)
def test_a_table_counts_exactly_in_as_few_bits_as_that_takes(most, kind):
    histogram = Histogram(-0.5, 1.0, -2, -2, np.array([3, 0, 1, most]))
    table = histogram_table({"t": histogram, "other": Histogram.of(array(1.0, 2.0))})
    assert str(table.schema.field("histogram").type.value_type) == kind
    again = histograms_from_table(from_ipc(to_ipc(table)))["t"]
    assert again.counts.tolist() == [3, 0, 1, most]
    assert again.merge(again).counts.tolist() == [6, 0, 2, 2 * most]
