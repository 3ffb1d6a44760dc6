"""What a probe measures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from quant_core.precision import DataType, Precision
from quant_core.probing import incremental, probe
from quant_core.probing.incremental import IncrementalModel
from quant_core.probing.probe import layer_sensitivity, unrounded_types
from quant_core.scoring.sampling import Samples
from quant_core.storage.data import refer_data
from tests.models import MODELS, samples
from tests.quant_core.workbench import bench


def unrounded(wide, narrow):
    return unrounded_types(Precision.parse(wide), Precision.parse(narrow))


@pytest.mark.parametrize("narrow", ["a8w8", "au8w8", "a16w4"])
def test_a_step_too_fine_to_matter_is_left_out(narrow):
    assert unrounded("a16w8", narrow) == {DataType.INT16}


@pytest.mark.parametrize(
    ("wide", "narrow"), [("a16w8", "au16w8"), ("a8w8", "a8w4"), ("float32", "a8w8"), ("float16", "a8w8")]
)
def test_a_step_that_is_what_a_probe_measures_is_kept(wide, narrow):
    assert unrounded(wide, narrow) == set()


@pytest.mark.parametrize("name", ["chain", "residual", "concat", "layer-is-output", "if-body"])
def test_losses_are_the_same_without_the_finest_steps(tmp_path, name):
    made = bench(MODELS[name](), tmp_path, samples(MODELS[name](), 400))
    plans = [made.plan(layer) for layer in made.names]
    losses = []
    for types in (frozenset(), frozenset({DataType.INT16})):
        wide, *narrowed = IncrementalModel(made.quantizer, made.wide, plans, unrounded=types).run(made.feeds)
        losses.append([sum(float(((a[key] - wide[key]) ** 2).sum()) for key in wide) for a in narrowed])
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)


@pytest.fixture
def shard(workbench, monkeypatch):
    """Probes all layers of a model, or every other one, on some of 16 samples."""
    made = workbench("residual")
    feeds = samples(made.original, 16)
    monkeypatch.setattr(probe, "_models", probe._Models())

    def probed(start, stop, step=1):
        table = layer_sensitivity(
            made.recipe,
            Samples(refer_data(feeds, made.machine.cache), start, stop),
            *(made.names[::step], "a8w8", made.wide.as_dict(), "mse", 0, 2, made.machine),
            opened_for=made.names,
        )
        return table.column("losses").to_pylist()

    return probed


def test_little_memory_opens_fewer_sessions_at_once_and_changes_no_loss(shard, monkeypatch):
    closed = []
    monkeypatch.setattr(IncrementalModel, "close", lambda self, variants: closed.append(variants))
    whole = shard(0, 16)
    assert not closed
    monkeypatch.setenv("NARROWCAST_MEMORY", "1")
    assert shard(0, 16) == whole
    assert closed == [[number] for number in range(len(whole))]


def test_tasks_on_other_samples_share_the_sessions_and_so_do_rounds_of_fewer_layers(shard, monkeypatch):
    opened, original = [], incremental.open_nodes
    monkeypatch.setattr(incremental, "open_nodes", lambda *given: opened.append(given) or original(*given))
    whole = shard(0, 8)
    before = len(opened)
    shard(8, 16)
    assert shard(0, 8, step=2) == whole[::2]
    assert len(opened) == before > 0


def test_a_round_of_fewer_layers_finds_the_same_where_no_session_is_left(shard, monkeypatch):
    whole = shard(0, 8)
    monkeypatch.setattr(probe, "_models", probe._Models())
    assert shard(0, 8, step=2) == whole[::2]


def test_models_of_one_plan_are_kept_the_ones_used_last(workbench, monkeypatch):
    made, models = workbench("residual"), probe._Models()

    def opened(start, *names):
        variants = tuple(start.narrowed({name: Precision.parse("a8w8")}) for name in names)
        return models.of(made.quantizer, start, variants, frozenset(), ("CPUExecutionProvider",))

    first, second = opened(made.wide, made.names[0]), opened(made.wide, made.names[1])
    assert opened(made.wide, made.names[0]) is first
    monkeypatch.setattr(probe, "_KEPT_BYTES", first.weight_bytes + second.weight_bytes)
    third = opened(made.wide, *made.names[:1], made.names[0])
    assert third in models._kept.values() and second not in models._kept.values()
    fourth = opened(made.plan(made.names[2]), made.names[0])
    assert list(models._kept.values()) == [fourth]


def test_sessions_of_many_weights_are_closed_when_nobody_runs_them(shard, monkeypatch):
    monkeypatch.setattr(probe, "_KEPT_BYTES", 0)
    shard(0, 8)
    assert not probe._models._used


def test_tasks_at_once_find_what_each_finds_alone(shard, monkeypatch):
    ranges = [(0, 4), (4, 8), (8, 12), (12, 16)]
    alone = [shard(*samples) for samples in ranges]
    monkeypatch.setattr(probe, "_models", probe._Models())
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda samples: shard(*samples), ranges)) == alone
