"""Two runs side by side."""

import pytest

from quant_core.results.comparison import compare
from quant_core.results.outcome import open_outcome
from tests.reports import changed, missed, mixed, own_metric, write_run

NAMES = ("conv", "dense", "head")


@pytest.fixture
def compared(tmp_path):
    def made(first, second):
        runs = [write_run(tmp_path / name, run) for name, run in (("one", first), ("two", second))]
        return compare(*map(open_outcome, runs))

    return made


def test_a_run_compared_with_itself_differs_in_nothing(compared):
    found = compared(mixed(NAMES), mixed(NAMES))
    assert (found.caveats, found.layers, found.of) == ((), (), 3)
    assert all(line.same for line in found.lines)


def test_cost_and_scores_are_side_by_side(compared):
    manifest, tables = mixed(NAMES)
    stricter = changed(manifest, {"plan.dense": "a16w8", "scores.mixed.l2": 0.45, "config.per_channel": False})
    found = compared((manifest, tables), (stricter, tables))
    lines = {line.name: (line.first, line.second) for line in found.lines if not line.same}
    assert lines["L2 distance, as shipped"] == ("0.490 (0.486 to 0.494)", "0.450 (0.446 to 0.454)")
    assert lines["bit operations"] == ("576 k, 75.0% of all wide", "704 k, 91.7% of all wide")
    assert lines["per_channel"] == ("True", "False")
    [layer] = found.layers
    assert (layer.layer, layer.first, layer.second, layer.loss) == ("dense", "a8w8", "a16w8", "0.00100 at a8w8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"input": {"sha256": "9" * 64}}, "not the same float model"),
        ({"data": {"evaluation": "9" * 64}}, "not the same evaluation data"),
    ],
)
def test_what_cannot_be_compared_is_said(compared, change, said):
    manifest, tables = mixed(NAMES)
    assert compared((manifest, tables), (changed(manifest, change), tables)).caveats == (said,)


def test_runs_of_other_kinds_can_be_compared(compared):
    found = compared(missed(), own_metric())
    lines = {line.name: (line.first, line.second) for line in found.lines}
    assert lines["target"] == ("l2 <= 0.1, missed", "pkg.mod:accuracy <= 0.01, met")
    assert lines["Drop of your metric, as shipped"] == ("", "0.00400")


def test_layers_of_another_model_are_listed(compared):
    found = compared(mixed(NAMES), mixed(("conv", "other")))
    assert {layer.layer: (layer.first, layer.second) for layer in found.layers} == {
        "dense": ("a8w8", ""),
        "head": ("a16w8", ""),
        "other": ("", "a16w8"),
    }
