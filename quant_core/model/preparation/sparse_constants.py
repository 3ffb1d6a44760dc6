"""Constants that a model stores sparsely, as everything here reads them: dense."""

from __future__ import annotations

import numpy as np
import onnx

__all__ = ["store_densely"]


def store_densely(graph: onnx.GraphProto) -> None:
    """Make every sparse constant of a graph a dense one, in place."""
    for sparse in graph.sparse_initializer:
        values = onnx.numpy_helper.to_array(sparse.values)
        places = onnx.numpy_helper.to_array(sparse.indices)
        dense = np.zeros(tuple(sparse.dims), values.dtype)
        if places.ndim == 1:  # counted along the flattened constant
            dense.flat[places] = values
        else:
            dense[tuple(places.T)] = values
        graph.initializer.append(onnx.numpy_helper.from_array(dense, sparse.values.name))
    del graph.sparse_initializer[:]
