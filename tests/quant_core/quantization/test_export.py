from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from quant_core.quantization import biases as bias_codes
from quant_core.quantization.export import export, exported_reference, is_exported
from tests.models import MODELS
from tests.quant_core.workbench import Workbench, same


def written(made: Workbench, plan) -> tuple[object, bytes]:
    table = export(made.recipe, plan.as_dict(), made.machine)
    reference = exported_reference(table, made.machine.cache)
    return table, Path(reference.url).read_bytes()


def test_the_file_is_the_plan_that_was_measured(workbench):
    made = workbench("residual")
    plan = made.plan("inner")
    _, data = written(made, plan)
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["x"]
    assert data == made.exported(plan).SerializeToString(deterministic=True)


def test_the_table_names_the_file_by_its_digest(workbench):
    made = workbench("chain")
    table, data = written(made, made.wide)
    row = table.to_pylist()[0]
    assert (row["file"], row["bytes"]) == ("model.onnx", len(data))
    assert is_exported(table, made.machine.cache)


def test_a_file_that_was_changed_or_lost_is_noticed(workbench):
    made = workbench("residual")
    table, data = written(made, made.plan("head"))
    path = made.machine.cache / "exported" / table.to_pylist()[0]["sha256"] / "model.onnx"
    path.write_bytes(data[:-1])
    assert not is_exported(table, made.machine.cache)
    path.unlink()
    assert not is_exported(table, made.machine.cache)


def test_writing_twice_gives_the_same_bytes(workbench):
    made = workbench("transformer")
    assert written(made, made.plan("up"))[1] == written(made, made.plan("up"))[1]


@pytest.mark.parametrize("name", MODELS)
def test_inputs_and_outputs_are_those_of_the_model(workbench, name):
    made = workbench(name)
    model, original = made.exported(made.wide), MODELS[name]()
    constants = {tensor.name for tensor in original.graph.initializer}
    assert [value.name for value in model.graph.input] == [
        value.name for value in original.graph.input if value.name not in constants
    ]
    assert [value.name for value in model.graph.output] == [value.name for value in original.graph.output]
    for before, after in zip(original.graph.output, model.graph.output, strict=True):
        assert before.type.tensor_type.elem_type == after.type.tensor_type.elem_type


@pytest.mark.parametrize("name", MODELS)
def test_only_constants_in_use_are_written_each_once(workbench, name):
    made = workbench(name)
    for plan in made.plans():
        graph = made.exported(plan).graph
        names = [tensor.name for tensor in graph.initializer]
        inner = [name for node in graph.node for entry in node.attribute for name in _read_inside(entry.g)]
        used = {name for node in graph.node for name in node.input} | set(inner)
        assert len(set(names)) == len(names)
        assert set(names) <= used
        assert len({node.name for node in graph.node}) == len(graph.node)


def _read_inside(graph: onnx.GraphProto) -> list[str]:
    return [name for node in graph.node for name in node.input]


def test_weights_are_stored_as_codes_alone(workbench):
    made = workbench("chain", runtime="reference")
    for precision, kind in [("a8w8", onnx.TensorProto.INT8), ("a16w16", onnx.TensorProto.INT16)]:
        graph = made.exported(made.plan(*made.names, precision=precision)).graph
        stored = {tensor.name: tensor.data_type for tensor in graph.initializer}
        assert {stored[f"{layer.weight}/{precision}/codes"] for layer in made.layers} == {kind}
        assert not {layer.weight for layer in made.layers} & set(stored)
        assert {kind for name, kind in stored.items() if "/bias/" in name and name.endswith("/codes")} == {6}  # int32


@pytest.mark.parametrize(("per_channel", "axis"), [(False, None), (True, 1)], ids=["per-tensor", "per-channel"])
def test_channels_of_a_weight_are_on_the_axis_that_is_written(workbench, per_channel, axis):
    made = workbench("transposed", per_channel=per_channel)
    graph = made.exported(made.wide).graph
    up = next(node for node in graph.node if node.name == "up")
    node = next(node for node in graph.node if up.input[1] in node.output)
    assert {entry.name: entry.i for entry in node.attribute} == ({} if axis is None else {"axis": axis})
    scale = next(tensor for tensor in graph.initializer if tensor.name == node.input[1])
    assert tuple(scale.dims) == (() if axis is None else (4,))


def test_the_model_says_who_made_it(workbench):
    assert workbench("chain").exported(workbench("chain").wide).producer_name == "narrowcast"


def test_any_batch_size_runs(workbench):
    made = workbench("dynamic-dims")
    feeds = {name: np.concatenate([array, array]) for name, array in made.feeds.items()}
    session = ort.InferenceSession(made.exported(made.wide).SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, feeds)
    assert same({"y": found[:4]}, {"y": found[4:]})


def test_what_says_nothing_is_left_out_and_nothing_changes_but_the_bytes(workbench):
    made = workbench("residual")
    plan = made.plan("inner", precision="a8w4")
    tables = [export(made.recipe, plan.as_dict(), made.machine, compact=compact) for compact in (False, True)]
    long, short = (onnx.load(exported_reference(table, made.machine.cache).url) for table in tables)
    assert short.ByteSize() < 0.6 * long.ByteSize()
    named = set(made.names)
    kept = [{node.name for node in one.graph.node} & named for one in (long, short)]
    assert kept[0] == kept[1]
    values = [(one.data_type, tuple(one.dims), one.raw_data) for one in short.graph.initializer]
    assert len(set(values)) == len(values)
    assert not any(list(entry.ints) == [1, 1] for node in short.graph.node for entry in node.attribute)
    results = [ort.InferenceSession(one.SerializeToString()).run(None, made.feeds) for one in (long, short)]
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("biases", "narrow"), [("float16", "a8w4"), ("small", "a8w4"), ("small", "a8w4t")])
def test_biases_in_fewer_bytes_are_simulated_as_they_are_shipped(biases, narrow, workbench, monkeypatch):
    monkeypatch.setattr(bias_codes, "_FEWEST_IN_HALF", 1)
    monkeypatch.setattr(bias_codes, "_FEWEST_IN_BYTES", 1)
    made = workbench("residual", biases=biases)
    for plan in made.plans(narrow):
        assert same(made.simulate(plan), made.ship(plan))
    kinds = {tensor.data_type for tensor in made.exported(made.wide).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds
