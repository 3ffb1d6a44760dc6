"""What a model wants of the data, and batches that fit it."""

import numpy as np
import pytest

from quant_core.errors import InputError
from quant_core.model.data.batches import batches, default_batch, fixed_batch
from quant_core.model.data.fitted_data import fitted
from quant_core.model.data.labels import check_labels
from quant_core.model.graph import FloatGraph
from quant_core.storage.data import Dataset
from tests.models import build

TWO_INPUTS = "(float[N,3,?] x, int64[N,2] mask) => (float[N,5] y) { y = Identity(x) }"
DENSE = "(float[N,3] x) => (float[N,5,4,4] y) { y = Identity(x) }"
FIXED = "(float[4,3] x) => (float[4,3] y) { y = Identity(x) }"
FREE = "(float[N,3] x) => (float[N,3] y) { y = Relu(x) }"


def graph(body, tmp_path):
    return FloatGraph(build(body.replace("?", "M")), tmp_path)


def data(labels=None, **columns):
    return Dataset(columns, labels, "data.npz")


X, MASK = np.zeros((6, 3, 7), np.float32), np.zeros((6, 2), np.int64)


@pytest.mark.parametrize(
    "columns",
    [{"x": X, "mask": MASK}, {"mask": MASK, "x": X[..., :2], "unused": X}],
    ids=["exactly", "another free dimension, and one array more"],
)
def test_data_that_fits(columns, tmp_path):
    fitted(graph(TWO_INPUTS, tmp_path), data(**columns))


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        pytest.param({"x": X}, "data.npz: has no array 'mask' for that model input; it has x", id="missing"),
        pytest.param(
            {"x": X.astype("f8"), "mask": MASK}, "data.npz: x is float64, the model wants float32", id="float64"
        ),
        pytest.param(
            {"x": X.astype("u1"), "mask": MASK}, "data.npz: x is uint8, the model wants float32", id="raw image"
        ),
        pytest.param({"x": X, "mask": MASK.astype("i4")}, "mask is int32, the model wants int64", id="int32"),
        pytest.param(
            {"x": X[:, :2], "mask": MASK},
            "data.npz: x has shape [6, 2, 7], the model wants [N, 3, any]",
            id="channels",
        ),
        pytest.param({"x": X[0], "mask": MASK}, "x has shape [3, 7], the model wants [N, 3, any]", id="no batch axis"),
        pytest.param({"x": X[None], "mask": MASK}, "x has shape [1, 6, 3, 7], the model wants ", id="one axis more"),
    ],
)
def test_data_that_does_not_fit(columns, line, tmp_path):
    with pytest.raises(InputError) as caught:
        fitted(graph(TWO_INPUTS, tmp_path), data(**columns))
    assert line in str(caught.value)


def test_a_model_without_an_axis_of_samples_is_refused_with_the_shape_that_would_be_right(tmp_path):
    body = "(float[3,7] x) => (float[3,7] y) { y = Identity(x) }"
    with pytest.raises(InputError, match=r"entry of x is a whole input of shape \[3, 7\]: .*in front.*: \[N, 3, 7\]"):
        fitted(graph(body, tmp_path), data(x=X))


def test_a_state_whose_axis_of_samples_does_not_show_is_refused_with_the_option_that_says_it(tmp_path):
    body = "(float[N,3] x, float[2,L,3] h) => (float[N,3] y) { y = Identity(x) }"
    with pytest.raises(InputError, match=r"h has shape \[6, 2, 1, 3\].*: --sample-axis h=AXIS"):
        fitted(graph(body, tmp_path), data(x=X[:, :, 0], h=np.zeros((6, 2, 1, 3), np.float32)))


@pytest.mark.parametrize(
    ("body", "labels"),
    [
        pytest.param(TWO_INPUTS, np.array([0, 4, 2]), id="a class a sample"),
        pytest.param(TWO_INPUTS, np.array([0, 4, 2], np.uint8), id="unsigned"),
        pytest.param(DENSE, np.full((3, 4, 4), 4), id="a class a pixel"),
    ],
)
def test_labels_that_fit(body, labels, tmp_path):
    check_labels(graph(body, tmp_path), data(labels), "y")


@pytest.mark.parametrize(
    ("body", "labels", "line"),
    [
        pytest.param(TWO_INPUTS, None, "has no array 'labels', which a top-1 target needs", id="missing"),
        pytest.param(TWO_INPUTS, np.zeros(3), "labels are float64, they must be integer class numbers", id="floats"),
        pytest.param(
            TWO_INPUTS,
            np.eye(3),
            "labels are float64, they must be integer class numbers: of one-hot labels, labels.argmax(axis=1)",
            id="one-hot floats",
        ),
        pytest.param(TWO_INPUTS, np.zeros(3, bool), "labels are bool, they must be integer", id="booleans"),
        pytest.param(TWO_INPUTS, np.zeros((3, 5), int), "labels have shape [3, 5], output y wants [N]", id="one-hot"),
        pytest.param(DENSE, np.zeros(3, int), "labels have shape [3], output y wants [N, 4, 4]", id="one for an image"),
        pytest.param(
            TWO_INPUTS, np.array([0, 5]), "labels run from 0 to 5, output y has classes 0 to 4", id="too large"
        ),
        pytest.param(TWO_INPUTS, np.array([-1, 4]), "labels run from -1 to 4", id="negative"),
    ],
)
def test_labels_that_do_not_fit(body, labels, line, tmp_path):
    with pytest.raises(InputError) as caught:
        check_labels(graph(body, tmp_path), data(labels), "y")
    assert str(caught.value).startswith(f"data.npz: {line}")


SAMPLES = data(x=np.arange(33, dtype=np.float32).reshape(11, 3), unused=np.zeros(11))


@pytest.mark.parametrize(
    ("size", "rows", "expected"),
    [
        pytest.param(4, None, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]], id="all"),
        pytest.param(2, [1, 5, 9], [[1, 5], [9]], id="some"),
        pytest.param(None, None, [list(range(11))], id="default size"),
        pytest.param(100, None, [list(range(11))], id="one batch"),
        pytest.param(4, [], [], id="nothing left"),
    ],
)
def test_batches(size, rows, expected, tmp_path):
    chosen = None if rows is None else np.array(rows, int)
    found = list(batches(graph(FREE, tmp_path), SAMPLES, size, chosen))
    assert [batch.rows.tolist() for batch in found] == expected
    assert [batch.count for batch in found] == [len(part) for part in expected]
    for batch in found:
        assert list(batch.feeds) == ["x"]
        np.testing.assert_array_equal(batch.feeds["x"], SAMPLES.columns["x"][batch.rows])


@pytest.mark.parametrize("size", [None, 2, 100])
def test_a_fixed_batch_is_filled_with_the_last_sample(size, tmp_path):
    found = list(batches(graph(FIXED, tmp_path), SAMPLES, size))
    assert [(batch.rows[0], batch.count) for batch in found] == [(0, 4), (4, 4), (8, 3)]
    np.testing.assert_array_equal(found[-1].feeds["x"], SAMPLES.columns["x"][[8, 9, 10, 10]])


def test_fixed_batch(tmp_path):
    assert fixed_batch(graph(FIXED, tmp_path)) == 4
    assert fixed_batch(graph(FREE, tmp_path)) is None


@pytest.mark.parametrize(("width", "expected"), [(10, 32), (4 << 20, 8), (1 << 30, 1)])
def test_the_default_batch_is_smaller_for_a_larger_model(width, expected, tmp_path):
    body = f"(float[N,{width}] x) => (float[N,{width}] y) {{ y = Relu(x) }}"
    assert default_batch(graph(body, tmp_path)) == expected


@pytest.mark.parametrize(("memory", "expected"), [(1 << 40, 8), (256 << 20, 8), (128 << 20, 4), (1, 1)])
def test_the_default_batch_is_smaller_where_memory_is_short(memory, expected, tmp_path):
    width = 4 << 20
    body = f"(float[N,{width}] x) => (float[N,{width}] y) {{ y = Relu(x) }}"
    assert default_batch(graph(body, tmp_path), memory) == expected
