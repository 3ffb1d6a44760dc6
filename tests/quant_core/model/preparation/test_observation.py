from __future__ import annotations

import numpy as np
import onnx

from quant_core.model.graph import FloatGraph
from quant_core.model.preparation.observation import observed
from quant_core.model.sessions import Session
from quant_core.model.signature import Signature
from quant_core.storage.data import Dataset
from tests.models import MODELS, samples


def test_values_are_kept_of_outputs_alone_and_sizes_of_every_tensor(tmp_path, monkeypatch):
    model, kept = MODELS["chain"](), []
    run = Session.__call__

    def recorded(session, feeds):
        found = run(session, feeds)
        kept.append(set(found))
        return found

    monkeypatch.setattr(Session, "__call__", recorded)
    graph = FloatGraph(model, tmp_path)
    inferred = FloatGraph(onnx.shape_inference.infer_shapes(model), tmp_path)
    data = Dataset({"x": samples(model, 4)["x"]}, None, "data")
    signature, sizes = observed(inferred, data, Signature.declared(graph))
    assert kept == [{"y"}] * 4  # three samples alone, then together
    ((share, shapes),) = sizes.shapes
    assert share == 1
    assert shapes["a"] == (1, 4, 8, 8)
    assert set(shapes) == {"x", *graph.producer}
    assert signature.elements == sum(int(np.prod(shapes[name])) for name in graph.producer)
