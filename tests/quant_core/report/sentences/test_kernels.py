from quant_core.report.sentences.kernels import kernels
from tests.reports import changed, mixed

LAYERS = [
    {"layer": "a", "runs_as": "Convolution u8", "is_integer": True},
    {"layer": "b", "runs_as": "Convolution u8", "is_integer": True},
    {"layer": "c", "runs_as": "Convolution f32", "is_integer": False, "why": "its runtime precision is f32"},
    {"layer": "pool", "runs_as": "CPU", "is_integer": False, "why": "it is left to the CPU"},
]


def test_the_report_says_what_layers_run_as_and_why_not_in_integers():
    run = mixed(("a", "b", "c"))[0]
    assert kernels(changed(run, {"deployed": {"runtime": "openvino", "layers": LAYERS}})) == [
        "Layers run in openvino as Convolution u8 (2), Convolution f32 (1).",
        "1 of 3 layers is not computed in integers: its runtime precision is f32 (1).",
        "1 other node is left to the CPU there.",
    ]
    assert not kernels(changed(run, {"deployed": {"runtime": "tract"}}))
