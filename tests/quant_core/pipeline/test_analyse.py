"""An analysis, from a model to its page; and the ranking it writes."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import yaml

from quant_core.config import AnalysisConfig, config_from
from quant_core.errors import InputError
from quant_core.pipeline.analyse import analyse
from quant_core.pipeline.auto import auto_mixed_precision
from quant_core.storage.tables import from_ipc
from tests.models import build, samples
from tests.quant_core.workbench import saved


def two_causes():
    """Layer `plain` has weights of one size; of `spread` one weight of each channel dwarfs the rest."""
    rng = np.random.default_rng(0)
    plain, spread = rng.choice([-1.0, 1.0], (8, 8)), rng.normal(size=(8, 8))
    spread[0] *= 400
    return build(
        "(float[N,8] x) => (float[N,8] y) { a = MatMul(x, w1) b = Tanh(a) y = MatMul(b, w2) }",
        {"w1": plain.astype(np.float32) / 8, "w2": spread.astype(np.float32)},
    )


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    model = two_causes()
    calibration, evaluation = samples(model, 64, 1), samples(model, 32, 2)
    calibration["x"][3, 2] = evaluation["x"][5, 1] = 60.0
    return saved(model, tmp_path_factory.mktemp("model")), calibration, evaluation


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("analysis")


@pytest.fixture(scope="module")
def analysis(job, folder):
    config = AnalysisConfig(calibrate="minmax")
    return analyse(job[0], calibration=job[1], evaluation=job[2], config=config, output=folder, workers=1)


def layers_of(folder):
    return from_ipc((folder / "layers.arrow").read_bytes()).column("layer").to_pylist()


def test_every_layer_has_a_loss_at_every_precision_ascending(analysis, folder):
    first, second = layers_of(folder)
    found = {(loss.layer, loss.precision) for loss in analysis.losses}
    assert found == {(name, one) for name in (first, second) for one in ("a16w8", "a8w8")}
    values = [loss.loss for loss in analysis.losses]
    assert values == sorted(values) and all(loss.samples == 32 for loss in analysis.losses)


def test_the_error_along_the_depth_is_told(analysis, folder, job):
    """The values of the pairs, computed by hand: of the first layer its input and weight, of the second as well."""
    first, second = layers_of(folder)
    found = {error.layer: error for error in analysis.depth if error.precision == "a8w8"}
    assert found[first].alone == found[first].accumulated > found[second].accumulated
    assert [error.precision for error in analysis.depth] == ["a16w8"] * 2 + ["a8w8"] * 2
    w1, w2 = (onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(job[0]).graph.initializer)
    read = np.tanh(job[2]["x"] @ w1)
    steps = np.abs(np.tanh(job[1]["x"] @ w1)).max() / 127, np.abs(w2).max(axis=0) / 127
    values, weight = (
        np.rint(np.clip(one / step, -128, 127)) * step for one, step in zip((read, w2), steps, strict=True)
    )
    error = np.square(values @ weight - read @ w2).sum()
    assert found[second].alone == pytest.approx(10 * np.log10(np.square(read @ w2).sum() / error), abs=0.05)


def test_the_spread_of_weights_is_told_the_widest_first(analysis, job):
    values = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(job[0]).graph.initializer}
    largest = sorted(float(np.abs(weight).max()) for weight in values.values())
    assert sorted(spread.largest for spread in analysis.weights) == pytest.approx(largest)
    assert analysis.weights[0].ratio >= analysis.weights[1].ratio >= 1


def test_the_cause_of_a_loss_is_told(analysis, folder):
    first, second = layers_of(folder)
    share = {loss.layer: loss.activation_share for loss in analysis.losses if loss.precision == "a8w8"}
    assert share[first] > 0.9  # its input has an outlier, and its weights are all of one size
    assert share[second] < 0.5
    only_weights = [loss for loss in analysis.losses if loss.precision == "a16w8"]
    assert only_weights and all(loss.activations == 0.0 and loss.weights == loss.loss for loss in only_weights)


def test_the_tensor_with_an_outlier_is_named(analysis):
    assert [spread.tensor for spread in analysis.outliers] == ["x"]
    assert analysis.outliers[0].largest == 60.0


def test_the_folder_has_tables_json_ranking_and_a_page(analysis, folder):
    written = json.loads((folder / "analysis.json").read_text())
    assert written["outliers"] == ["x"] and written["wide"] == "a16w16"
    assert [one["loss"] for one in written["losses"]] == [one.loss for one in analysis.losses]
    sensitivity = from_ipc((folder / "sensitivity.arrow").read_bytes())
    assert set(sensitivity.column("precision").to_pylist()) == {"a16w8", "a8w8", "a8w16"}
    page = (folder / "analysis.html").read_text()
    assert 'id="loss-chart"' in page and 'id="tensor-chart"' in page and "Tensors with outliers" in page


def test_a_model_whose_layers_reach_no_compared_output_has_a_page_all_the_same(tmp_path):
    model = build(
        "(float[N,4] x) => (float[N,4] y, float[N,4] z) { y = MatMul(x, w) z = Relu(x) }",
        {"w": np.eye(4, dtype=np.float32)},
    )
    data = samples(model, 8)
    config = AnalysisConfig(output="z")
    found = analyse(saved(model, tmp_path), calibration=data, evaluation=data, config=config, output=tmp_path / "out")
    assert found.losses == () and "none was probed" in (tmp_path / "out" / "analysis.html").read_text()
    assert yaml.safe_load((tmp_path / "out" / "ranking.yaml").read_text())["order"] == []


def test_a_precision_that_is_not_narrower_and_a_remote_folder_are_refused(job):
    with pytest.raises(ValueError, match="a8w8 is not narrower than the wide a8w8"):
        AnalysisConfig(wide="a8w8", narrow=["a8w8"])
    with pytest.raises(InputError, match="a folder on this machine"):
        analyse(job[0], calibration=job[1], evaluation=job[2], output="memory://analysis", workers=1)


def test_a_search_narrows_layers_in_the_order_of_an_edited_ranking(job, analysis, folder, tmp_path):
    order = yaml.safe_load((folder / "ranking.yaml").read_text())["order"]
    last = {loss.layer: place for place, loss in enumerate(analysis.losses)}
    assert order == sorted(last, key=last.get)
    for names in (order, order[::-1]):
        config = config_from(most_layers=1, search="linear", order=names, runtime="reference")
        run = auto_mixed_precision(
            job[0], calibration=job[1], evaluation=job[2], config=config, output=tmp_path / names[0], workers=1
        )
        assert {name for name, precision in run.plan.layers if str(precision) == "a8w8"} == {names[0]}


def test_an_order_of_unknown_layers_or_for_another_search_is_refused(job, tmp_path):
    with pytest.raises(InputError, match="order: goes with search='linear' or 'bisect'"):
        config_from(target={"metric": "l2", "limit": 1.0}, order=["a"])
    config = config_from(target={"metric": "l2", "limit": 1.0}, search="bisect", order=["nowhere"])
    with pytest.raises(InputError, match="order: the model has no layer 'nowhere'"):
        auto_mixed_precision(job[0], calibration=job[1], evaluation=job[2], config=config, output=tmp_path, workers=1)


def test_a_recurrent_layer_that_leaves_out_its_first_output_is_analysed(tmp_path):
    model = build(
        """(float[N,5,4] x) => (float[N,2] y) {
            t = Transpose<perm=[1,0,2]>(x)  [gru] , last = GRU<hidden_size=6>(t, w, u)
            s = Squeeze(last, zero)  [fc] y = MatMul(s, v)
        }""",
        {"w": (1, 18, 4), "u": (1, 18, 6), "v": (6, 2), "zero": np.array([0])},
    )
    given = {"calibration": samples(model, 8, 1), "evaluation": samples(model, 8, 2)}
    found = analyse(saved(model, tmp_path), **given, config=AnalysisConfig(), output=tmp_path / "out", workers=1)
    assert {loss.layer for loss in found.losses} == {"gru", "fc"}
