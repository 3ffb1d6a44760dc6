from quant_core.report.kernels import kernels
from tests.reports import changed, mixed

LAYERS = [
    {"layer": "a", "runs_as": "Convolution u8", "is_integer": True},
    {"layer": "b", "runs_as": "Convolution u8", "is_integer": True},
    {"layer": "c", "runs_as": "Convolution f32", "is_integer": False, "why": "its runtime precision is f32"},
]


def test_the_report_says_what_layers_run_as_and_why_not_in_integers():
    assert kernels(changed(mixed()[0], {"deployed": {"runtime": "openvino", "layers": LAYERS}})) == [
        "In openvino layers run so: 2 as Convolution u8, 1 as Convolution f32.",
        "1 of 3 are not computed in integers (1: its runtime precision is f32).",
    ]
    assert not kernels(changed(mixed()[0], {"deployed": {"runtime": "tract"}}))
