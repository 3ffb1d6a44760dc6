"""One pass over the calibration data."""

import numpy as np
import onnxruntime as ort
import pytest

from quant_core.calibration import collect
from quant_core.calibration.collect import calibrate
from quant_core.calibration.float_pass import observed_tensors
from quant_core.calibration.histogram import Histogram, histogram_table, histograms_from_table
from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.execution.progress import Watcher, watched_by
from quant_core.model.layers import layers_from_table
from quant_core.model.operators import DEFAULT_LAYER_OPS
from quant_core.model.preparation.prepare import prepare
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.topology import Topology
from quant_core.storage.data import refer_data
from quant_core.storage.references import refer
from quant_core.storage.schemas import CALIBRATION
from quant_core.storage.tables import to_ipc
from tests.models import MODELS, build, samples
from tests.quant_core.workbench import saved


def calibrated(model, arrays, tmp_path, batch_size=None, workers=1):
    machine = Machine(tmp_path / "cache", workers)
    layers = prepare(refer(saved(model, tmp_path)), DEFAULT_LAYER_OPS, machine)
    return calibrate(layers, refer_data(arrays, machine.cache), batch_size, machine)


def conv(batch="N", activation="Relu"):
    body = f"(float[{batch},3,6,6] x) => (float[{batch},4,6,6] y) {{ c = Conv(x, w)  y = {activation}(c) }}"
    return build(body, {"w": (4, 3, 1, 1)})


def test_every_tensor_has_the_histogram_of_its_values(tmp_path):
    arrays = samples(conv(), 12)
    table = calibrated(conv(), arrays, tmp_path, batch_size=5)
    assert table.schema.equals(CALIBRATION, check_metadata=True)
    y = ort.InferenceSession(conv().SerializeToString()).run(["y"], arrays)[0]
    found = histograms_from_table(table)
    # c, between the convolution and its Relu, is never a tensor of its own
    assert {name: histogram.count for name, histogram in found.items()} == {"x": 1296, "y": 1728}
    for name, values in (("x", arrays["x"]), ("y", y)):
        expected = histogram_table({name: Histogram.of(values)})
        assert to_ipc(histogram_table({name: found[name]})) == to_ipc(expected)


@pytest.mark.parametrize("name", ["residual", "concat"])
def test_neither_batches_nor_workers_change_the_table(name, tmp_path):
    model = MODELS[name]()
    arrays = samples(model, 11)
    tables = [
        calibrated(model, arrays, tmp_path, batch_size, workers) for batch_size, workers in ((None, 1), (3, 1), (2, 3))
    ]
    assert len({to_ipc(table) for table in tables}) == 1


@pytest.mark.parametrize("count", [1, 4, 5, 11])
def test_samples_that_fill_a_fixed_batch_are_not_counted_again(count, tmp_path):
    arrays = samples(conv(), count)
    fixed = calibrated(conv(batch="4"), arrays, tmp_path)
    assert to_ipc(fixed) == to_ipc(calibrated(conv(), arrays, tmp_path))


def test_only_what_a_quantized_operator_touches_is_observed(tmp_path):
    model = build(
        "(float[N,3] x) => (float[N,4] y) { a = Sin(x)  b = Cos(a)  c = MatMul(b, w)  y = Sign(c) }", {"w": (3, 4)}
    )
    machine = Machine(tmp_path)
    layers = prepare(refer(saved(model, tmp_path)), DEFAULT_LAYER_OPS, machine)
    graph = prepared_graph(layers, tmp_path)
    assert observed_tensors(Topology.of(graph, layers_from_table(layers))) == ["b", "c"]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_tensor_with_an_infinity_in_any_sample_has_no_row(batch_size, tmp_path):
    arrays = samples(conv(), 5)
    table = calibrated(conv(activation="Exp"), arrays, tmp_path, batch_size)
    assert table.column("tensor").to_pylist() == ["x", "c", "y"]
    arrays["x"][3] *= 1000  # no longer within what exp can hold
    table = calibrated(conv(activation="Exp"), arrays, tmp_path, batch_size)
    assert table.column("tensor").to_pylist() == ["x", "c"]


def test_a_nan_is_refused_with_the_tensor_and_the_samples(tmp_path):
    arrays = samples(conv(), 5)
    model = build("(float[N,3,6,6] x) => (float[N,4,6,6] y) { r = Sqrt(x)  y = Conv(r, w) }", {"w": (4, 3, 1, 1)})
    with pytest.raises(InputError, match=r"computes a NaN in tensor 'r' \(samples 0 to 1 of the calibration data\)"):
        calibrated(model, arrays, tmp_path, batch_size=2)


def test_data_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no array 'x'"):
        calibrated(conv(), {"z": np.zeros((2, 3), np.float32)}, tmp_path)


def test_progress_counts_samples(tmp_path):
    class Log(Watcher):
        def __init__(self):
            self.expected, self.done = 0, 0

        def expects(self, stage, units):
            self.expected += units

        def advanced(self, stage, units):
            self.done += units

    log = Log()
    with watched_by(log):
        calibrated(conv(batch="4"), samples(conv(), 11), tmp_path)
    assert (log.expected, log.done) == (11, 11)


def test_calibration_runs_on_the_providers_asked_for(tmp_path, monkeypatch):
    machine, asked = Machine(tmp_path / "cache", 1), []
    opened = ort.InferenceSession
    monkeypatch.setattr(
        ort, "InferenceSession", lambda *given, **also: asked.append(also.get("providers")) or opened(*given, **also)
    )
    layers = prepare(refer(saved(conv(), tmp_path)), DEFAULT_LAYER_OPS, machine)
    data = refer_data(samples(conv(), 2), machine.cache)
    for providers in (["AzureExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]):
        calibrate(layers, data, None, machine, providers)
        assert asked[-1] == providers
    with pytest.raises(InputError, match="'CUDAExecutionProvider' is not available here; there are .*CPUExecution"):
        calibrate(layers, data, None, machine, ["CUDAExecutionProvider"])


def test_of_a_large_tensor_some_values_are_binned_and_all_are_bounded(tmp_path, monkeypatch):
    arrays = samples(conv(), 200)
    whole = histograms_from_table(calibrated(conv(), arrays, tmp_path))
    monkeypatch.setattr(collect, "_ENOUGH", 4000)
    some = histograms_from_table(calibrated(conv(), arrays, tmp_path))
    for name, histogram in whole.items():
        assert (some[name].low, some[name].high) == (histogram.low, histogram.high)
        assert some[name].count == pytest.approx(histogram.count, rel=0.02)
        assert some[name].quantile(0.7) == pytest.approx(histogram.quantile(0.7), abs=0.05)
        assert len(np.unique(some[name].counts)) < len(np.unique(histogram.counts))  # each value counts for several


@pytest.mark.parametrize(("size", "share", "stride"), [(96, 1.0, 1), (96, 1e-7, 229), (210, 2e-5, 11)])
def test_a_stride_meets_every_row_column_and_channel(size, share, stride):
    assert collect._stride(size, share) == stride
