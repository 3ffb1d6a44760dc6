"""Searches whose candidates are blocks of layers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from quant_core import InputError, auto_mixed_precision
from quant_core.config import config_from
from quant_core.storage.tables import facts
from tests.models import build, samples
from tests.quant_core.workbench import saved

LIMIT = 0.67
"""An L2 that the deep model misses with all layers narrow, and meets with some."""


def deep():
    """A chain of eight residual blocks of three layers each, one of which has outliers."""
    nodes, weights, before = "", {}, "x"
    for number in range(8):
        for layer, (given, made) in enumerate(
            ((before, f"a{number}"), (f"a{number}", f"b{number}"), (f"b{number}", f"c{number}"))
        ):
            name = f"n{number}_{layer}"
            nodes += f"[{name}] {made} = MatMul({given}, w{name}) "
            weights[f"w{name}"] = np.random.default_rng(3 * number + layer).standard_normal((8, 8), np.float32) / 4
        weights[f"wn{number}_1"][0] *= 1 + 30 * (number == 4)
        nodes += f"d{number} = Add(c{number}, {before}) "
        before = f"d{number}"
    return build(f"(float[N,8] x) => (float[N,8] y) {{ {nodes} y = Identity({before}) }}", weights)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    model = deep()
    return {"model": saved(model, tmp_path_factory.mktemp("deep")), "calibration": samples(model, 32, 1)}


def run(network, tmp_path, limit=LIMIT, **options):
    given = {**network, "evaluation": network["calibration"]}
    config = config_from(target={"metric": "l2", "limit": limit}, per_channel=False, **options)
    return auto_mixed_precision(**given, config=config, output=tmp_path / "out", workers=1)


def boundaries_of(outcome):
    """In how many places the precision changes within a block; between two there is an Add."""
    return sum(
        name[:2] == after[:2] and precision != other
        for (name, precision), (after, other) in pairwise(outcome.plan.as_dict().items())
    )


def precisions_of(outcome, number):
    """The precisions of a block's layers."""
    return {precision for name, precision in outcome.plan.as_dict().items() if name.startswith(f"n{number}_")}


def test_blocks_take_half_the_probes_and_come_in_runs(network, tmp_path):
    alone, together = run(network, tmp_path), run(network, tmp_path, blocks=["graph"])
    assert together.met and alone.met
    assert together.manifest.work.probes <= alone.manifest.work.probes / 2
    assert 0 < together.manifest.narrowed.layers < 24
    assert boundaries_of(together) < boundaries_of(alone)
    costs = [outcome.manifest.costs.of("bops") for outcome in (alone, together)]
    assert costs[1].mixed - costs[0].mixed <= costs[0].wide / 24 / 2  # what one layer saves


def test_of_a_block_that_is_split_one_layer_is_probed_and_the_others_lose_the_rest(network, tmp_path):
    outcome = run(network, tmp_path, blocks=["graph"])
    ranking = outcome.table("sensitivity")
    losses = {row["layer"]: row["loss"] for row in ranking.to_pylist()}
    inferred = [row["layer"] for row in ranking.to_pylist() if not row["samples"]]
    split = facts(ranking)["split"]
    probed_before = [block for block in split if block["samples"]]  # what is left of a block may be split again
    assert inferred and outcome.manifest.work.probes == len(losses) - len(inferred) + len(probed_before)
    for block in probed_before:
        number = block["layer"].split("_")[0]
        parts = sum(loss for name, loss in losses.items() if name.startswith(f"{number}_"))
        assert parts == pytest.approx(block["loss"]) or parts > block["loss"]  # a tenth of it is the least


@pytest.mark.parametrize("search", ["linear", "bisect", "greedy", "knapsack"])
def test_given_blocks_stay_together(network, tmp_path, search):
    (tmp_path / "blocks.yaml").write_text("first: [n0_*, n1_*]\nsecond: [n4_0, n4_1, n4_2*, n5_*]\n")
    outcome = run(network, tmp_path, blocks=[str(tmp_path / "blocks.yaml")], search=search)
    assert outcome.met
    for first, second in ((0, 1), (4, 5)):
        assert len(precisions_of(outcome, first) | precisions_of(outcome, second)) == 1


def test_boundaries_are_in_no_cost_that_is_told(network, tmp_path):
    outcome = run(network, tmp_path, blocks=["graph"])
    bops = {"a16w8": 8 * 8 * 16 * 8, "a8w8": 8 * 8 * 8 * 8}
    assert outcome.manifest.costs.of("bops").mixed == sum(bops[one] for one in outcome.plan.as_dict().values())


def test_a_layer_that_is_kept_wide_leaves_its_block(network, tmp_path):
    outcome = run(network, tmp_path, limit=1.0, blocks=["n0_*", "n1_*"], keep_wide=["n0_1"])
    plan = outcome.plan.as_dict()
    assert plan["n0_1"] == "a16w8" and plan["n0_0"] == "a8w8"


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (["n0_*", "n0_1"], "blocks: layer 'n0_1' is in two of them"),
        (["nowhere/*"], "blocks: no layer has the name 'nowhere/\\*'"),
        (["gone.yaml"], "blocks: gone.yaml cannot be read"),
    ],
)
def test_blocks_that_make_no_sense_are_refused(network, tmp_path, blocks, message):
    with pytest.raises(InputError, match=message):
        run(network, tmp_path, blocks=blocks)


def test_a_file_that_lists_no_blocks_is_refused(network, tmp_path):
    (tmp_path / "blocks.yaml").write_text("[n0_0, n0_1]")
    with pytest.raises(InputError, match="must list blocks, each a list of layers"):
        run(network, tmp_path, blocks=[str(tmp_path / "blocks.yaml")])
    with pytest.raises(InputError, match="blocks: order and most_layers are for single layers"):
        run(network, tmp_path, blocks=["graph"], search="bisect", most_layers=2)
