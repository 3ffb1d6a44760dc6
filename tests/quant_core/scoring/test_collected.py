"""Outputs of all samples, brought to disk batch by batch."""

from __future__ import annotations

import numpy as np
import pytest

from quant_core.scoring.collected import collected
from quant_core.storage.ragged import RaggedColumn


def parts(values, *batches):
    return [(np.array(rows), {"y": values[rows]}) for rows in batches]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "bool"])
def test_batches_become_one_array(tmp_path, dtype):
    values = (np.arange(30).reshape(5, 2, 3) % 7).astype(dtype)
    found = collected(parts(values, [0, 1], [2, 3], [4]), ["y"], tmp_path)["y"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)
    assert list(tmp_path.iterdir()) == []


def test_samples_are_in_the_order_of_the_data(tmp_path):
    values = np.arange(20.0).reshape(5, 4)
    found = collected(parts(values, [3, 1], [4, 0], [2]), ["y"], tmp_path)["y"]
    np.testing.assert_array_equal(found, values)


def test_samples_of_different_shape_are_ragged(tmp_path):
    samples = [np.full((1, length), length, np.float32) for length in (3, 2, 3, 1)]
    given = [(np.array([1]), {"y": samples[1][None]}), (np.array([0, 2]), {"y": np.stack([samples[0], samples[2]])})]
    found = collected([*given, (np.array([3]), {"y": samples[3][None]})], ["y"], tmp_path)["y"]
    assert isinstance(found, RaggedColumn)
    assert [found.sample(row).tolist() for row in range(4)] == [sample.tolist() for sample in samples]


def test_texts_stay_in_memory(tmp_path):
    values = np.array([["a"], ["bc"], ["d"]], object)
    found = collected(parts(values, [2], [0, 1]), ["y"], tmp_path)["y"]
    assert found.tolist() == values.tolist()


def test_several_outputs_are_kept_apart(tmp_path):
    one, other = np.arange(6.0).reshape(3, 2), np.arange(3)
    found = collected([(np.arange(3), {"a": one, "b": other})], ["a", "b"], tmp_path)
    assert (found["a"].tolist(), found["b"].tolist()) == (one.tolist(), other.tolist())
