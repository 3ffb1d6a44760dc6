"""What is common to all sessions."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from quant_core.model.graph import FloatGraph
from quant_core.model.sessions import open_nodes
from tests.models import build

_MIB = 1 << 20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_open_sessions_keep_no_activations_of_their_own(tmp_path):
    """Some hundred suffixes are open at once while a model is probed."""
    model = build("(float[N] x) => (float[N] y) { a = Relu(x)  b = Neg(a)  y = ReduceSum(b) }", {})
    graph = FloatGraph(model, tmp_path)
    feeds = {"x": np.ones(2 * _MIB, np.float32)}  # two tensors of 8 MiB between the nodes
    sessions = [open_nodes(graph, graph.nodes, graph.outputs, {}) for _ in range(21)]
    sessions[0](feeds)
    before = resident_bytes()
    for session in sessions[1:]:
        session(feeds)
    assert resident_bytes() - before < 80 * _MIB


def test_a_session_asked_for_nothing_gives_nothing(tmp_path):
    """Such as one for the tensors inside that products read, where all of them read an input of the model."""
    graph = FloatGraph(build("(float[N] x) => (float[N] y) { y = Relu(x) }", {}), tmp_path)
    assert open_nodes(graph, graph.nodes, [], {})({"x": np.ones(2, np.float32)}) == {}
