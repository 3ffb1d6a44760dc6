"""Whole networks: what is measured in simulation is what the file gives, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks import zoo
from tests.benchmarks.networks import NETWORKS
from tests.models import samples
from tests.quant_core.workbench import bench


def agree(made):
    """Compare all wide, every second layer narrow, and all narrow."""
    names = made.names
    for plan in (made.wide, made.plan(*names[::2]), made.plan(*names)):
        shipped, simulated = made.ship(plan), made.simulate(plan)
        for name in shipped:
            np.testing.assert_array_equal(shipped[name], simulated[name])
    return shipped


@pytest.mark.parametrize("name", NETWORKS)
def test_built_networks(tmp_path, name):
    model = NETWORKS[name]()
    agree(bench(model, tmp_path, samples(model, 2)))


# The rest on demand: python -m tests.benchmarks.agreement --zoo
@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_image_networks(tmp_path, name):
    model = zoo.network(name)
    picture = zoo.images(1, zoo.input_shape(model), seed=7)
    found = agree(bench(model, tmp_path, {model.graph.input[0].name: picture}))
    assert all(np.ptp(values) > 0 for values in found.values())
