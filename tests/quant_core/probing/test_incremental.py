"""Probes run no more than the descendants of a change. That their numbers are right is shown in test_qdq."""

from __future__ import annotations

import pytest

from quant_core.model.operators import DEFAULT_LAYER_OPS
from quant_core.model.sessions import Session
from quant_core.probing import graph_cut, incremental
from quant_core.probing.incremental import IncrementalModel
from tests.models import build
from tests.quant_core.workbench import bench, same


@pytest.fixture
def runs(monkeypatch):
    """How many nodes of layers were run since the last look."""
    count = [0]
    layers = {}
    opened, original = incremental.open_nodes, Session.run_values

    def counting(graph, nodes, *others):
        session = opened(graph, nodes, *others)
        layers[session] = sum(node.op_type in DEFAULT_LAYER_OPS for node in nodes)
        return session

    def counted(self, feeds, outputs=None):
        count[0] += layers[self]
        return original(self, feeds, outputs)

    def looked() -> int:
        seen, count[0] = count[0], 0
        return seen

    monkeypatch.setattr(incremental, "open_nodes", counting)
    monkeypatch.setattr(Session, "run_values", counted)
    return looked


def layers_run(made, runs):
    """Layers run for the wide model, then for each layer narrowed alone."""
    model = IncrementalModel(made.quantizer, made.wide, [made.plan(name) for name in made.names])
    return [runs() for _ in model.run(made.feeds)]


def test_a_probe_runs_only_what_comes_after_its_layer(workbench, runs):
    assert layers_run(workbench("chain"), runs) == [4, 4, 3, 2, 1]


def test_a_probe_leaves_parallel_branches_alone(workbench, runs):
    assert layers_run(workbench("three-readers"), runs) == [4, 4, 1, 1, 1]


def test_blocks_grow_as_the_root_of_the_layers(runs, tmp_path):
    """So few cuts that layers fuse, so many that a layer's own session is small."""
    layers = 25
    steps = " ".join(f"[l{i}] x{i + 1} = MatMul(x{i}, w{i})" for i in range(layers))
    weights = {f"w{i}": (2, 2) for i in range(layers)}
    made = bench(build(f"(float[N,2] x0) => (float[N,2] x{layers}) {{ {steps} }}", weights), tmp_path)
    assert layers_run(made, runs) == [layers, *range(layers, 0, -1)]
    opened = IncrementalModel(made.quantizer, made.wide, [made.plan(name) for name in made.names])
    assert len(opened._base) == 5


def test_heavy_layers_are_blocks_of_their_own(workbench, monkeypatch):
    """Else the rest of a large model would be in memory once for each of its layers."""
    made = workbench("chain")
    monkeypatch.setattr(graph_cut, "_BLOCK_BYTES", 1)
    opened = IncrementalModel(made.quantizer, made.wide, [made.plan(name) for name in made.names])
    assert len(opened._base) == len(made.names)


def test_what_follows_the_last_variant_is_opened_once(workbench, monkeypatch):
    made = workbench("chain")
    monkeypatch.setattr(graph_cut, "_BLOCK_BYTES", 1)
    opened = IncrementalModel(made.quantizer, made.wide, [made.plan("c1")])
    ((own, _), (rest, _)) = opened._variants[0]
    assert rest is opened._base[-1]
    assert own is not opened._base[0]


def test_a_layer_that_leads_nowhere_changes_nothing(tmp_path):
    text = "(float[N,2] x) => (float[N,2] y) { [a] h = MatMul(x, w) [dead] z = MatMul(h, v) [b] y = MatMul(h, u) }"
    model = build(text, {"w": (2, 2), "v": (2, 2), "u": (2, 2)})
    made = bench(model, tmp_path, optimize=False)
    assert made.names == ["a", "dead", "b"]
    wide, *probed = IncrementalModel(made.quantizer, made.wide, [made.plan(name) for name in made.names]).run(
        made.feeds
    )
    assert [same(wide, found) for found in probed] == [False, True, False]


def test_a_variant_equal_to_the_wide_plan_runs_nothing(workbench, runs):
    made = workbench("chain")
    model = IncrementalModel(made.quantizer, made.wide, [made.wide])
    wide, again = model.run(made.feeds)
    assert same(wide, again)
    assert runs() == len(made.names)


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


def test_sessions_that_memory_does_not_suffice_for_are_opened_in_groups(workbench):
    made = workbench("residual")
    model = IncrementalModel(made.quantizer, made.wide, [made.plan(name) for name in made.names])
    everything = list(range(len(made.names)))
    assert model.groups(model.weight_bytes, everything) == [everything]
    assert model.groups(0, everything) == [[number] for number in everything]
    between = model.groups(model.weight_bytes * 3 // 4, everything)
    assert 1 < len(between) < len(everything) and [number for group in between for number in group] == everything
    wide, *whole = model.run(made.feeds)
    for group in between:
        again, *found = model.run(made.feeds, group)
        assert same(again, wide) and all(same(one, whole[number]) for one, number in zip(found, group, strict=True))
        model.close(group)
        assert not any(part._opened for part in set().union(*map(model._parts, group)).difference(model._base))
    assert all(part._opened for part in model._base)


def test_a_variant_writes_no_more_than_is_read_of_it(tmp_path):
    """The wide model hands out what each of its layers reads; a tensor handed out is a tensor reordered."""
    steps = " ".join(f"[l{i}] x{i + 1} = MatMul(x{i}, w{i})" for i in range(9))
    made = bench(
        build(f"(float[N,2] x0) => (float[N,2] x9) {{ {steps} }}", {f"w{i}": (2, 2) for i in range(9)}), tmp_path
    )
    opened = IncrementalModel(made.quantizer, made.wide, [made.plan(name) for name in made.names])
    assert [len(session.outputs) for session in opened._base] == [3, 3, 3]
    assert {session.outputs for steps in opened._variants for session, _ in steps} == {("x3",), ("x6",), ("x9",)}
