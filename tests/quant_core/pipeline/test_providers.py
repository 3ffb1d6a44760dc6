"""Execution providers: what runs on those asked for, and what on the CPU whatever is asked for."""

from __future__ import annotations

import onnxruntime as ort
import pytest

from quant_core import InputError, auto_mixed_precision
from quant_core.config import config_from
from quant_core.execution.progress import Watcher, watched_by
from quant_core.model.graph import FloatGraph
from quant_core.model.sessions import CPU, open_nodes
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved

OTHER = ("AzureExecutionProvider", "CPUExecutionProvider")
"""In ONNX Runtime's build for the CPU there is one other provider, which leaves all nodes to the CPU's."""


@pytest.fixture
def opened(monkeypatch):
    """What the sessions that are opened run on, by the number of their Q/DQ nodes being zero or not."""
    found = []
    session = ort.InferenceSession

    def noted(model, *given, **also):
        quantized = b"QuantizeLinear" in model if isinstance(model, bytes) else None
        found.append((quantized, tuple(also.get("providers", ()))))
        return session(model, *given, **also)

    monkeypatch.setattr(ort, "InferenceSession", noted)
    return found


def run(tmp_path, name, providers, runtime="reference"):
    model = MODELS["chain"]()
    data = samples(model, 12, 1)
    settings = config_from(target={"metric": "l2", "limit": 0.005}, wide="a16w16", providers=providers, runtime=runtime)
    places = {"output": tmp_path / name, "cache": tmp_path / f"{name}-cache"}
    return auto_mixed_precision(
        saved(model, tmp_path), calibration=data, evaluation=data, config=settings, workers=1, **places
    )


@pytest.mark.skipif(OTHER[0] not in ort.get_available_providers(), reason="a build of ONNX Runtime without it")
def test_calibration_probes_and_plans_run_on_the_providers_and_files_on_the_cpu(tmp_path, opened):
    there = run(tmp_path, "there", OTHER)
    in_memory = [providers for _, providers in opened if providers == OTHER]
    plans = [providers for quantized, providers in opened if quantized]
    files = [providers for quantized, providers in opened if quantized is None]
    assert in_memory and plans and set(plans) == {OTHER}
    assert files and set(files) == {CPU}
    here = run(tmp_path, "here", CPU)
    assert there.plan == here.plan
    assert there.model.read_bytes() == here.model.read_bytes()


@pytest.mark.skipif(OTHER[0] not in ort.get_available_providers(), reason="a build of ONNX Runtime without it")
def test_what_the_pairs_say_is_not_taken_from_plans_that_ran_elsewhere(tmp_path):
    class Notes(Watcher):
        def noted(self, message):
            notes.append(message)

    notes: list[str] = []
    with watched_by(Notes()):
        run(tmp_path, "here", CPU, "onnxruntime")
        known = [note for note in notes if "known from the search" in note]
        run(tmp_path, "there", OTHER, "onnxruntime")
    assert known
    assert [note for note in notes if "known from the search" in note] == known


def test_a_provider_that_is_not_there_is_refused_before_any_work(tmp_path, opened):
    with pytest.raises(InputError, match=r"'CUDAExecutionProvider' is not available here; there are .*CPUExecution"):
        run(tmp_path, "out", ("CUDAExecutionProvider",))
    assert opened == []


def test_a_provider_that_does_not_start_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", *CPU])
    graph = FloatGraph.load(saved(MODELS["chain"](), tmp_path))
    with pytest.raises(InputError, match="'CUDAExecutionProvider' does not start here"), pytest.warns(UserWarning):
        open_nodes(graph, graph.nodes, graph.outputs, {}, providers=("CUDAExecutionProvider", *CPU))
