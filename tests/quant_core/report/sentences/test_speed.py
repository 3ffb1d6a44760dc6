import pytest

from quant_core.report.sentences.speed import speed
from tests.reports import changed, mixed

TIMES = {"unit": "ms", "threads": 1, "float": 2.0, "wide": 4.0, "mixed": 1.0, "speedup": 2.0}


@pytest.mark.parametrize(
    ("runtime", "timer", "begins"),
    [
        pytest.param("onnxruntime", None, "In ONNX Runtime, on 1 thread of", id="here"),
        pytest.param("openvino", None, "In openvino, on 1 thread of", id="a runtime of its own"),
        pytest.param("tract", None, "In ONNX Runtime, on 1 thread of", id="one that is not run here"),
        pytest.param("onnxruntime", "board:time", "As timed by board:time,", id="the user's timer"),
    ],
)
def test_the_report_says_where_models_were_timed(runtime, timer, begins):
    manifest = changed(mixed()[0], {"latency": TIMES | {"timer": timer}, "config.runtime": runtime})
    [said] = speed(manifest)
    assert said.startswith(begins) and " a sample takes 1 ms, 2.00 times as fast as the float model (2 ms)" in said


PACE = {"runtime": "onnxruntime", "pace": {"float": 1.0, "mixed": 2.0}}


@pytest.mark.parametrize(
    ("deployed", "told"),
    [
        pytest.param(
            PACE | {"faster": "--wide float32"},
            ["2.00 times as long as the float", "A faster choice: --wide float32."],
            id="slower",
        ),
        pytest.param(
            PACE | {"pace": {"float": 2.0, "mixed": 1.0}}, ["2.00 times as fast as the float model (2 ms)"], id="faster"
        ),
        pytest.param(PACE | {"pace": {"float": 1.0, "mixed": 1.04}}, ["about as fast as the float model"], id="alike"),
        pytest.param(PACE | {"pace": None}, [], id="not timed"),
    ],
)
def test_the_report_says_in_passing_how_fast_the_file_is(deployed, told):
    said = speed(changed(mixed()[0], {"deployed": deployed, "latency": None}))
    assert len(said) == len(told) and all(part in one for part, one in zip(told, said, strict=True))


def test_where_a_sample_is_a_sequence_times_are_of_a_step():
    [said] = speed(changed(mixed()[0], {"latency": TIMES | {"timer": None}, "config.states": ["h=hn"]}))
    assert "a step of a sample takes 1 ms" in said
