"""Takes a model through prepare and calibrate, and runs a plan of it in each of the ways the engine has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.calibration.collect import calibrate
from quant_core.config import QuantizationConfig
from quant_core.execution.machine import Machine
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import Layer, layers_from_table
from quant_core.model.operators import DEFAULT_LAYER_OPS
from quant_core.model.preparation.prepare import prepare
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.sessions import Numerics, open_nodes, session_options
from quant_core.precision import Precision, PrecisionPlan
from quant_core.probing.incremental import IncrementalModel
from quant_core.quantization.export import quantized_model
from quant_core.quantization.lineage import lineage
from quant_core.quantization.plan_graph.qdq import PlanWriter
from quant_core.quantization.quantizer import Quantizer
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.storage.data import refer_data
from quant_core.storage.references import refer
from tests.models import samples

__all__ = ["Feeds", "Outputs", "Workbench", "bench", "distance", "same", "saved"]

Feeds = dict[str, NDArray[np.generic]]
Outputs = dict[str, NDArray[np.generic]]


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    """The model as a file in the folder."""
    onnx.save(model, folder / "float.onnx")
    return folder / "float.onnx"


@dataclass(frozen=True)
class Workbench:
    """A prepared and calibrated model."""

    original: onnx.ModelProto
    layer_table: pa.Table
    calibration: pa.Table
    config: QuantizationConfig
    graph: FloatGraph
    feeds: Feeds
    machine: Machine

    @property
    def layers(self) -> list[Layer]:
        return layers_from_table(self.layer_table)

    @property
    def names(self) -> list[str]:
        return [layer.name for layer in self.layers]

    @property
    def recipe(self) -> QuantizationRecipe:
        return QuantizationRecipe(self.layer_table, self.calibration, self.config)

    @cached_property
    def quantizer(self) -> Quantizer:
        return Quantizer(self.graph, self.layers, self.calibration, self.config)

    @property
    def wide(self) -> PrecisionPlan:
        return PrecisionPlan.uniform(self.names, self.config.wide)

    def plan(self, *narrow: str, precision: str = "a8w8") -> PrecisionPlan:
        """The wide plan with these layers narrowed."""
        return self.wide.narrowed(dict.fromkeys(narrow, Precision.parse(precision)))

    def plans(self, precision: str = "a8w8") -> list[PrecisionPlan]:
        """All wide, all narrow, each layer narrow alone, every second one."""
        alone = [self.plan(name, precision=precision) for name in self.names]
        together = [self.plan(*names, precision=precision) for names in (self.names, self.names[::2])]
        return [self.wide, *together, *alone]

    def simulate(self, plan: PrecisionPlan) -> Outputs:
        """What `evaluate_plan` computes."""
        writer = PlanWriter(self.quantizer, folded=True)
        nodes = writer.write(plan).nodes
        return open_nodes(self.graph, nodes, self.graph.outputs, writer.constants)(self.feeds)

    def probe(self, plans: Iterable[PrecisionPlan], numerics: Numerics = Numerics.SHIPPED) -> list[Outputs]:
        """What `layer_sensitivity` computes: the wide model's outputs, then each plan's."""
        return list(IncrementalModel(self.quantizer, self.wide, list(plans), numerics).run(self.feeds))

    def exported(self, plan: PrecisionPlan) -> onnx.ModelProto:
        """The model that is shipped."""
        writer = PlanWriter(self.quantizer, folded=False)
        return quantized_model(self.quantizer, writer.write(plan), writer.constants, notes=lineage(self.recipe))

    def ship(self, plan: PrecisionPlan, level: ort.GraphOptimizationLevel | None = None) -> Outputs:
        """The shipped model run by ONNX Runtime, optimisations off unless a level is given."""
        options = session_options()
        if level is not None:
            options = ort.SessionOptions()
            options.graph_optimization_level = level
            options.log_severity_level = 4
        data = self.exported(plan).SerializeToString()
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return dict(zip(self.graph.outputs, session.run(None, self.feeds), strict=True))


def bench(
    model: onnx.ModelProto,
    folder: Path,
    feeds: Feeds | None = None,
    layer_ops: tuple[str, ...] = DEFAULT_LAYER_OPS,
    pairs: str = "standard",
    optimize: bool = True,
    opset: int = 21,
    **config: object,
) -> Workbench:
    """Prepare a model and calibrate it on the feeds (by default four random samples)."""
    machine = Machine(folder / "cache")
    fixed = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    feeds = feeds or samples(model, count=fixed or 4)
    table = prepare(refer(saved(model, folder)), layer_ops, machine, pairs=pairs, optimize=optimize, opset=opset)
    calibration = calibrate(table, refer_data(feeds, machine.cache), None, machine)
    settings = QuantizationConfig.model_validate(config)
    graph = prepared_graph(table, machine.cache)
    return Workbench(model, table, calibration, settings, graph, feeds, machine)


def same(first: Outputs, second: Outputs) -> bool:
    """Whether the outputs are equal bit for bit."""
    return list(first) == list(second) and all(
        first[name].dtype == second[name].dtype and first[name].tobytes() == second[name].tobytes() for name in first
    )


def distance(first: Outputs, second: Outputs) -> float:
    """The largest difference, in standard deviations of the output it is found in."""
    return max(
        float(np.abs(values.astype(np.float64) - second[name]).max() / (second[name].std() or 1))
        for name, values in first.items()
    )
