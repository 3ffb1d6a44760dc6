"""Probes run no more than the descendants of a change. That their numbers are right is shown in test_qdq."""

from __future__ import annotations

import pytest

from quant_core.model.sessions import Session
from quant_core.probing.incremental import IncrementalModel
from tests.quant_core.workbench import same


@pytest.fixture
def runs(monkeypatch):
    """How many blocks were run since the last look."""
    count = [0]
    original = Session.run_values

    def counted(self, feeds):
        count[0] += 1
        return original(self, feeds)

    def looked() -> int:
        seen, count[0] = count[0], 0
        return seen

    monkeypatch.setattr(Session, "run_values", counted)
    return looked


def blocks_run(made, runs):
    """Blocks run for the wide model, then for each layer narrowed alone."""
    model = IncrementalModel(made.quantizer, made.wide, [made.plan(name) for name in made.names])
    return [runs() for _ in model.run(made.feeds)]


def test_a_probe_runs_only_what_comes_after_its_layer(workbench, runs):
    assert blocks_run(workbench("chain"), runs) == [4, 4, 3, 2, 1]


def test_a_probe_leaves_parallel_branches_alone(workbench, runs):
    wide, stem, one, two, three = blocks_run(workbench("three-readers"), runs)
    assert (wide, stem) == (4, 4)
    # its own block, and the last one, which adds up the branches
    assert (one, two, three) == (2, 2, 1)


def test_a_variant_equal_to_the_wide_plan_runs_nothing(workbench, runs):
    made = workbench("chain")
    model = IncrementalModel(made.quantizer, made.wide, [made.wide])
    wide, again = model.run(made.feeds)
    assert same(wide, again)
    assert runs() == 1


def test_a_probe_of_the_last_layer_alone_still_gets_its_inputs(workbench):
    made = workbench("residual")
    _, probed = IncrementalModel(made.quantizer, made.wide, [made.plan("head")]).run(made.feeds)
    assert same(probed, made.simulate(made.plan("head")))


def test_batches_do_not_leave_anything_behind(workbench):
    made = workbench("residual")
    model = IncrementalModel(made.quantizer, made.wide, [made.plan(name) for name in made.names])
    first = list(model.run(made.feeds))
    list(model.run({name: array[::-1] * 2 for name, array in made.feeds.items()}))
    assert all(same(one, other) for one, other in zip(first, model.run(made.feeds), strict=True))
