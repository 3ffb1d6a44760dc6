"""OpenVINO's CPU plugin, measured at 2026.4."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_core.errors import InputError
from quant_core.model.graph import FloatGraph
from quant_core.model.operators import RECURRENT_OPS
from quant_core.precision import DataType
from quant_core.runtimes.kernels import NOT_QUANTIZED, LayerKernel
from quant_core.runtimes.profiles.reference import REFERENCE
from quant_core.runtimes.rules.products import BYTE_SUMS_IN_RANGE
from quant_core.runtimes.rules.recurrent import LENGTHS_WITH_FIXED_SIZES, STATES_BESIDE_FLOATS
from quant_core.runtimes.rules.tensors import WHOLE_BLOCKS, types_among
from quant_core.runtimes.written_model import WrittenLayer, WrittenModel

__all__ = ["OPENVINO"]

_BYTES = frozenset({DataType.INT8, DataType.UINT8})
_WEIGHTS = _BYTES | {DataType.INT4, DataType.UINT4}
_INTEGER = ("i8", "u8", "i4", "u4")

Feeds = Mapping[str, NDArray[np.generic]]


class _OpenVinoModel:
    """A model that OpenVINO has compiled for its CPU plugin."""

    def __init__(self, path: Path) -> None:
        self.compiled = _compiled(path)
        graph = FloatGraph.load(path)
        self.inputs = [_name(value, graph.inputs) for value in self.compiled.inputs]
        self.outputs = [_name(value, graph.outputs) for value in self.compiled.outputs]

    def __call__(self, feeds: Feeds) -> dict[str, NDArray[np.generic]]:
        """Run on arrays, from any thread: each call has a request of its own."""
        found = self.compiled.create_infer_request().infer({name: feeds[name] for name in self.inputs})
        return {name: np.array(found[at]) for at, name in enumerate(self.outputs)}

    def call_on(self, feeds: Feeds) -> Callable[[], object]:
        """A call on arrays handed over before."""
        request = self.compiled.create_infer_request()
        request.infer({name: feeds[name] for name in self.inputs})
        return partial(request.infer, None)


def _name(value: Any, known: Sequence[str]) -> str:
    """Return the name that an input or output has in the file: a node that is taken out leaves its own as well."""
    names = value.get_names()
    return next((name for name in known if name in names), str(value.get_any_name()))


_FIRST = Lock()


@cache
def _core() -> Any:
    """Return OpenVINO, with numpy's part of its binding set up.

    That is set up as the first tensor is seen as an array. Two threads that come there at once wait for each other for
    ever, the one for Python's lock, the other for the guard of a static variable (2026.4).
    """
    with _FIRST:
        import openvino

        _ = openvino.Tensor(np.zeros(1, np.float32)).data
        return openvino.Core()


def _compiled(path: Path) -> Any:
    """The file as an application compiles it, but on one thread; raises InputError where OpenVINO does not."""
    try:
        return _core().compile_model(str(path), "CPU", {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1})
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise InputError(f"{path.name}: OpenVINO does not run it: {lines[-1] if lines else error}") from error


def _kernels(path: Path) -> list[LayerKernel]:
    """Return what layers run as, with the runtime precision that the plugin says of each."""
    runs: dict[str, tuple[str, str]] = {}
    for node in _compiled(path).get_runtime_model().get_ordered_ops():
        told = node.get_rt_info()
        precision, names = (str(told[key].astype(str)) for key in ("runtimePrecision", "originalLayersNames"))
        for name in names.split(","):
            runs.setdefault(name, (str(told["layerType"].astype(str)), precision))
    return [_kernel(layer, runs) for layer in WrittenModel.of_file(path).layers]


def _kernel(layer: WrittenLayer, runs: Mapping[str, tuple[str, str]]) -> LayerKernel:
    """Return what a layer runs as; the plugin calls it by its name, or where it is the last by what it writes."""
    node = layer.node
    if node.op_type in RECURRENT_OPS:  # their names are on nodes that only move what they write
        return LayerKernel(node.name, node.op_type, "", False, "")
    names = (node.name, f"{node.name}/WithoutBiases", node.output[0])
    kind, precision = next((runs[name] for name in names if name in runs), ("", ""))
    integer = precision in _INTEGER
    unread = "" if layer.reads else f": {NOT_QUANTIZED}"
    why = "" if integer or not kind else f"its runtime precision is {precision}{unread}"
    return LayerKernel(node.name, node.op_type, f"{kind} {precision}".strip(), integer, why)


OPENVINO = replace(
    REFERENCE,
    name="openvino",
    title="OpenVINO's CPU plugin",
    assumes="",
    activations=_BYTES,
    weights=_WEIGHTS,
    weights_alone=_WEIGHTS,
    rules=(
        *REFERENCE.rules,
        types_among(_BYTES, _WEIGHTS, "differs"),
        BYTE_SUMS_IN_RANGE,
        STATES_BESIDE_FLOATS,
        WHOLE_BLOCKS,
        LENGTHS_WITH_FIXED_SIZES,
    ),
    numbers="Layers between 8-bit pairs are integer kernels. 16-bit pairs are taken out of the graph, clipping and "
    "all, and without VNNI sums of unsigned activations times int8 weights saturate in 16 bits; with uint8 weights a "
    "Conv runs in float. On processors with bf16 the plugin computes the float model in it: one sample of ResNet-20 "
    "takes 231 us so, 369 us in float32 and 179 us with every layer in 8 bits.",
    recurrent="Behind an 8-bit pair it does not compile LSTM and GRU; with weights alone in codes it does.",
    opens=_OpenVinoModel,
    kernels=_kernels,
    package="openvino",
    takes_part_of_a_block=False,
    keeps_byte_sums_in_range=True,
    looks_up_codes=False,
)
