"""Outputs of a batch as those of its samples."""

import numpy as np
import pytest

from quant_core.errors import InputError
from quant_core.model.data.batches import batches
from quant_core.model.data.sample_outputs import per_sample
from quant_core.storage.data import open_dataset, refer_data


def test_rows_of_a_sample_are_kept_together(workbench):
    """An output whose first axis is a multiple of the batch, as of a model that folds time into it."""
    made = workbench("chain")
    dataset = open_dataset(refer_data(made.feeds, made.machine.cache), made.machine.cache)
    batch = next(iter(batches(made.graph, dataset)))
    assert per_sample(np.zeros((12, 7)), "y", batch).shape == (4, 3, 7)
    for shape in [(), (3, 7)]:
        with pytest.raises(InputError, match="its first axis is not the batch"):
            per_sample(np.zeros(shape), "y", batch)
