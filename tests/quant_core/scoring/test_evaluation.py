from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.model.data.batches import batches
from quant_core.quantization.export import export, exported_reference
from quant_core.scoring.evaluation import evaluate_plan, score_file
from quant_core.scoring.float_outputs import float_outputs, reference_arrays
from quant_core.scoring.sampling import Samples, visit_order
from quant_core.scoring.sequential import in_data_order
from quant_core.storage.data import open_dataset, refer_data
from quant_core.storage.references import refer
from quant_core.storage.tables import facts
from tests.models import build, samples
from tests.quant_core.workbench import bench, saved


class Scored:
    """Scores of a workbench's model on fresh data, by simulation and by file."""

    def __init__(self, made, folder, count=5, output=0, function=None, labels=None):
        self.made, self.function = made, function
        self.model = refer(saved(made.original, folder))
        self.feeds = samples(made.original, count, seed=1)
        extra = {} if labels is None else {"labels": labels}
        self.data = refer_data(self.feeds | extra, made.machine.cache)
        self.output = output
        self.baseline = self.floats()

    def floats(self, batch_size=None, workers=1):
        machine = Machine(self.made.machine.cache, workers)
        return float_outputs(
            self.model, self.made.layer_table, self.data, self.output, self.function, batch_size, machine
        )

    def simulated(self, plan, batch_size=None, workers=1, start=0, stop=None):
        made, machine = self.made, Machine(self.made.machine.cache, workers)
        some = Samples(self.data, start, self.baseline.num_rows if stop is None else stop)
        return evaluate_plan(made.recipe, self.baseline, some, plan.as_dict(), self.function, batch_size, machine)

    def shipped(self, plan, batch_size=None):
        made = self.made
        table = export(made.recipe, plan.as_dict(), made.machine)
        file = exported_reference(table, made.machine.cache)
        return score_file(file, made.layer_table, self.baseline, self.data, self.function, batch_size, made.machine)


@pytest.fixture
def scored(workbench, tmp_path):
    def made(name, **options):
        return Scored(workbench(name), tmp_path, **options)

    return made


@pytest.mark.parametrize("name", ["chain", "transformer", "fixed-batch", "several-inputs-and-outputs", "upsample-9"])
def test_a_plan_scores_what_its_file_scores(scored, name):
    found = scored(name)
    for plan in (found.made.wide, found.made.plan(*found.made.names)):
        assert found.simulated(plan).equals(found.shipped(plan))


def test_narrowing_everything_loses_more_than_nothing(workbench, tmp_path):
    found = Scored(workbench("chain", per_channel=False), tmp_path)
    losses = [
        np.mean(found.simulated(plan).column("l2").to_numpy())
        for plan in (found.made.wide, found.made.plan(*found.made.names))
    ]
    assert 0 < losses[0] < losses[1]


def test_float_outputs_are_the_models(scored):
    found = scored("several-inputs-and-outputs", output="all")
    session = ort.InferenceSession(found.model.url, providers=["CPUExecutionProvider"])
    expected = dict(zip(["y", "z", "w"], session.run(None, found.feeds), strict=True))
    arrays = reference_arrays(found.baseline)
    assert list(arrays) == ["y", "z", "w"]
    for name, array in expected.items():
        np.testing.assert_allclose(arrays[name], array, rtol=1e-5, atol=1e-6)


def test_outputs_keep_their_shape(scored):
    assert reference_arrays(scored("residual", count=3).baseline)["y"].shape == (3, 4, 6, 6)


@pytest.mark.parametrize("workers", [1, 3], ids=["one-thread", "three-threads"])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_scores_do_not_depend_on_threads(scored, batch_size, workers):
    found = scored("chain")
    plan = found.made.plan("c2")
    assert found.simulated(plan, batch_size, workers).equals(found.simulated(plan, batch_size))
    assert found.floats(batch_size, workers).equals(found.floats(batch_size))


def test_rounds_make_up_the_whole(scored):
    found = scored("chain", count=11)
    plan, whole = found.made.plan("c2"), found.simulated(found.made.plan("c2"), batch_size=1)
    ends = [(0, 3), (3, 6), (6, 11)]
    parts = [found.simulated(plan, 1, start=start, stop=stop) for start, stop in ends]
    assert [part.num_rows for part in parts] == [3, 3, 5]
    assert in_data_order(parts, [visit_order(11, *pair) for pair in ends]).equals(whole)
    assert parts[0].equals(whole.take(visit_order(11, 0, 3)))


def test_samples_that_fill_up_a_fixed_batch_do_not_count(tmp_path):
    model = build("(float[2,4] x) => (float[2,3] y) { [m] y = MatMul(x, w) }", {"w": (4, 3)})
    made = bench(model, tmp_path)
    dataset = open_dataset(refer_data({"x": np.ones((5, 4), np.float32)}, made.machine.cache), made.machine.cache)
    assert [(batch.feeds["x"].shape[0], batch.count) for batch in batches(made.graph, dataset)] == [
        (2, 2),
        (2, 2),
        (2, 1),
    ]
    found = Scored(made, tmp_path, count=5)
    assert found.baseline.num_rows == 5
    assert found.simulated(made.plan("m")).num_rows == 5


def test_labels_give_top1(scored):
    labels = np.array([0, 1, 2, 3, 0])
    found = scored("chain", labels=labels)
    hits = reference_arrays(found.baseline)["y"].argmax(axis=1) == labels
    assert found.simulated(found.made.wide).column("float_top1").to_pylist() == hits.astype(float).tolist()


def mean_of_outputs(outputs, labels):
    return float(np.mean([array.mean() for array in outputs.values()]))


def not_a_number(outputs, labels):
    return float("nan")


def test_the_users_metric_is_computed_on_all_samples_at_once(scored):
    found = scored("chain", function=f"{__name__}:mean_of_outputs")
    arrays = reference_arrays(found.baseline)
    assert facts(found.baseline)["metric"] == pytest.approx(mean_of_outputs(arrays, None))
    assert facts(found.simulated(found.made.wide, batch_size=2))["metric"] == pytest.approx(
        mean_of_outputs(arrays, None), abs=0.05
    )


def test_a_metric_that_is_not_finite_is_refused(scored):
    with pytest.raises(InputError, match="must return a finite number"):
        scored("chain", function=f"{__name__}:not_a_number")


def test_an_output_without_values_is_refused_by_name(tmp_path):
    model = build("(float[N,3] x) => (float[N,0] y) { y = MatMul(x, w) }", {"w": np.zeros((3, 0), np.float32)})
    with pytest.raises(InputError, match=r"output 'y' holds no value \(shape \[5, 0\]\)"):
        Scored(bench(model, tmp_path), tmp_path)
