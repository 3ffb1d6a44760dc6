import pytest

from quant_core.report.speed import speed
from tests.reports import changed, mixed

TIMES = {"unit": "ms", "threads": 1, "float": 2.0, "wide": 4.0, "mixed": 1.0, "speedup": 2.0}


@pytest.mark.parametrize(
    ("runtime", "timer", "begins"),
    [
        pytest.param("onnxruntime", None, "In ONNX Runtime on 1 thread where this ran, ", id="here"),
        pytest.param("openvino", None, "In openvino on 1 thread where this ran, ", id="a runtime of its own"),
        pytest.param("tract", None, "In ONNX Runtime on 1 thread where this ran, ", id="one that is not run here"),
        pytest.param("onnxruntime", "board:time", "As timed by board:time, ", id="the user's timer"),
    ],
)
def test_the_report_says_where_models_were_timed(runtime, timer, begins):
    manifest = changed(mixed()[0], {"latency": TIMES | {"timer": timer}, "config.runtime": runtime})
    assert speed(manifest).startswith(begins + "a sample takes 1 ms: 2.00 times as fast as the float model (2 ms)")
