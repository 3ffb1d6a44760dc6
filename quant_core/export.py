"""Writes a plan as a model file."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.config import QuantizationConfig
from quant_core.evaluation import quantizer_of
from quant_core.graph import FloatGraph, outer_names
from quant_core.machine import Machine
from quant_core.precision import PrecisionPlan
from quant_core.qdq import PlanWriter, QuantizedGraph
from quant_core.references import Reference, file_digest, made_folder
from quant_core.tables import EXPORTED

__all__ = ["export", "exported_folder", "exported_reference", "is_exported", "quantized_model"]


def export(
    layers: pa.Table, calibration: pa.Table, plan: Mapping[str, str], config: QuantizationConfig, machine: Machine
) -> pa.Table:
    """Write the quantized model of a plan to the cache; one row a file (schema EXPORTED)."""
    quantizer = quantizer_of(layers, calibration, config, machine)
    writer = PlanWriter(quantizer, folded=False)
    model = quantized_model(quantizer.graph, writer.write(PrecisionPlan.from_dict(plan)), writer.constants)
    onnx.checker.check_model(model, full_check=True)
    with tempfile.TemporaryDirectory(dir=made_folder(machine.cache)) as scratch:
        written = Path(scratch) / "model.onnx"
        written.write_bytes(model.SerializeToString(deterministic=True))
        digest, size = file_digest(written), written.stat().st_size
        # In one step, and also over a file of that name that is damaged.
        written.replace(made_folder(machine.cache / "exported" / digest) / "model.onnx")
    return pa.Table.from_pylist([{"file": "model.onnx", "sha256": digest, "bytes": size}], schema=EXPORTED)


def exported_reference(exported: pa.Table, cache: Path) -> Reference:
    """The file that `export` wrote."""
    digest = exported.column("sha256")[0].as_py()
    return Reference(url=str(cache / "exported" / digest / "model.onnx"), sha256=digest)


def exported_folder(table: pa.Table) -> str | None:
    """Folder, relative to the cache, of the files that a table of schema EXPORTED lists; None for other tables."""
    if table.schema.names != EXPORTED.names:
        return None
    return f"exported/{table.column('sha256')[0].as_py()}"


def is_exported(exported: pa.Table, cache: Path) -> bool:
    """Whether the file is still in the cache, unchanged."""
    reference = exported_reference(exported, cache)
    return Path(reference.url).exists() and file_digest(Path(reference.url)) == reference.sha256


def quantized_model(
    graph: FloatGraph, written: QuantizedGraph, constants: Mapping[str, NDArray[np.generic]]
) -> onnx.ModelProto:
    """The written nodes as a model, with just the constants they use, each in the order of its first use."""
    model = onnx.ModelProto(
        ir_version=graph.model.ir_version, producer_name="narrowcast", opset_import=graph.model.opset_import
    )
    model.functions.extend(graph.model.functions)
    model.graph.name = graph.model.graph.name or "model"
    model.graph.node.extend(written.nodes)
    model.graph.input.extend(value for value in graph.model.graph.input if value.name not in graph.initializers)
    model.graph.output.extend(graph.model.graph.output)
    used = dict.fromkeys(name for node in written.nodes for name in [*node.input, *outer_names(node)])
    for name in used:
        if name in constants:
            model.graph.initializer.append(_tensor(constants[name], name))
        elif name in graph.initializers:
            model.graph.initializer.append(graph.initializers[name])
    return onnx.shape_inference.infer_shapes(model)


def _tensor(array: NDArray[np.generic], name: str) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.asarray(array, order="C"), name)
