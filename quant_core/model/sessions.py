"""Every ONNX Runtime session is opened here, so that all of them compute alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from quant_core.errors import InputError, first_line
from quant_core.model.graph import FloatGraph, outer_names
from quant_core.model.half_precision import with_float32_ends
from quant_core.model.stored_model import INLINE_BYTES, declared_constant

__all__ = [
    "CPU",
    "Constants",
    "Numerics",
    "OpenModel",
    "Session",
    "check_providers",
    "fast_numerics",
    "open_file",
    "open_inside",
    "open_nodes",
    "session_options",
]

CPU = ("CPUExecutionProvider",)
"""Where everything runs whose numbers must be the same on every machine."""

Constants = Mapping[str, NDArray[np.generic]]
"""Constant tensors by name."""


class Numerics(Enum):
    """In which order a session may add up."""

    SHIPPED = "shipped"
    """All optimisations off: what the Q/DQ nodes say is what is computed, bit for bit as from the file."""
    FAST = "fast"
    """All float optimisations on (blocked convolutions above all). Sums round differently in the last bit, which
    now and then tips a value into the neighbouring code: losses move by about a hundredth, in half the time."""
    DEPLOYED = "deployed"
    """All optimisations on, Q/DQ pairs fused into integer kernels: for timing, as an application would run it."""


def fast_numerics(graph: FloatGraph) -> Numerics:
    """Return the fastest way to run a model where the last bit does not matter.

    FAST packs every weight into memory once more; those of a large model are mapped from its file otherwise.
    """
    return Numerics.SHIPPED if graph.is_large else Numerics.FAST


def session_options(
    numerics: Numerics = Numerics.SHIPPED, folder: Path | None = None, entries: Mapping[str, str] | None = None
) -> ort.SessionOptions:
    """Options under which a number depends on the model and its input alone.

    `folder` is where constants are that a model handed over in memory has outside itself; `entries` are further
    session options, those of a runtime's profile.

    One thread a session: batches and layers run in parallel instead, so that results are the same bit for
    bit whatever the number of workers.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    _share_memory(options)
    if numerics is Numerics.SHIPPED:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        # A packed constant is multiplied in another order than a weight that comes out of a DequantizeLinear.
        options.add_session_config_entry("session.disable_prepacking", "1")
    else:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    if numerics is Numerics.FAST:
        # Otherwise these optimisations would quantize the float weights of a simulation once more.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    for name, value in (entries or {}).items():
        options.add_session_config_entry(name, value)
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return options


def _share_memory(options: ort.SessionOptions) -> None:
    """Have sessions take activations from one arena, and only weights from memory of their own.

    Otherwise each of a hundred suffixes keeps what it once needed for a batch, and what a run writes is never still
    in the processor's cache from the run before: probes took a third longer.
    """
    _shared_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    options.enable_mem_pattern = False  # one block a run, larger than any that lies ready


@cache
def _shared_arena() -> None:
    where = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(where, None)


class OpenModel(Protocol):
    """A model that a runtime has opened."""

    def __call__(self, feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run on arrays, from any thread; the outputs by name."""

    def call_on(self, feeds: Mapping[str, NDArray[np.generic]]) -> Callable[[], object]:
        """A call that runs the model on arrays handed over before, for timing."""


class Session:
    """An open session: maps named inputs to named outputs."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self.inputs = tuple(value.name for value in session.get_inputs())
        self.outputs = tuple(value.name for value in session.get_outputs())

    def __call__(self, feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run on arrays."""
        if not self.outputs:  # which ONNX Runtime refuses to run for
            return {}
        with _told_of_memory():
            results = self._session.run(None, {name: feeds[name] for name in self.inputs})
        return dict(zip(self.outputs, results, strict=True))

    def values(self, feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, ort.OrtValue]:
        """Arrays as ONNX Runtime's own values, for `run_values`."""
        return {name: ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(feeds[name])) for name in self.inputs}

    def call_on(self, feeds: Mapping[str, NDArray[np.generic]]) -> Callable[[], object]:
        """A call that runs the session on arrays handed over before, for timing."""
        return partial(self.run_values, self.values(feeds))

    def run_values(
        self, feeds: Mapping[str, ort.OrtValue], outputs: Sequence[str] | None = None
    ) -> dict[str, ort.OrtValue]:
        """Run on ONNX Runtime's own values, which are handed from session to session without a copy.

        Only what leads to `outputs` (all) is run.
        """
        outputs = self.outputs if outputs is None else outputs
        options = ort.RunOptions()
        options.only_execute_path_to_fetches = len(outputs) < len(self.outputs)
        with _told_of_memory():
            results = self._session.run_with_ort_values(outputs, {name: feeds[name] for name in self.inputs}, options)
        return dict(zip(outputs, results, strict=True))


class _WideSession(Session):
    """A session that takes float32 for what its model has in 16 bits; data may have either."""

    def __init__(self, session: ort.InferenceSession) -> None:
        super().__init__(session)
        self._floats = {value.name for value in session.get_inputs() if value.type == "tensor(float)"}

    def __call__(self, feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        """Run on arrays."""
        return super().__call__(self._widened(feeds))

    def values(self, feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, ort.OrtValue]:
        """Arrays as ONNX Runtime's own values, for `run_values`."""
        return super().values(self._widened(feeds))

    def _widened(self, feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.generic]]:
        return {name: np.asarray(array, np.float32) if name in self._floats else array for name, array in feeds.items()}


@contextmanager
def _told_of_memory() -> Iterator[None]:
    """Raise MemoryError where ONNX Runtime got no memory: it raises what it raises for any failure of a node."""
    try:
        yield
    except Exception as error:
        if "Failed to allocate memory" in str(error) or "bad_alloc" in str(error):
            raise MemoryError(first_line(error)) from error
        raise


def open_file(path: Path, numerics: Numerics = Numerics.SHIPPED, entries: Mapping[str, str] | None = None) -> Session:
    """Open a model file, with float32 at its ends; raises InputError when ONNX Runtime cannot.

    What it takes or gives in float16 or bfloat16, which numpy has not got, is cast on the way.
    """
    try:
        session = ort.InferenceSession(path, session_options(numerics, entries=entries), providers=CPU)
        ends = [value.type for value in [*session.get_inputs(), *session.get_outputs()]]
        if {"tensor(float16)", "tensor(bfloat16)"}.isdisjoint(ends):
            return Session(session)
        data = with_float32_ends(onnx.load(path, load_external_data=False)).SerializeToString()
        return _WideSession(ort.InferenceSession(data, session_options(numerics, path.parent, entries), providers=CPU))
    except Exception as error:  # onnxruntime raises a class a failure, with no common base of its own
        raise InputError(f"{path.name}: ONNX Runtime cannot run it: {first_line(error)}") from error


def open_inside(path: Path, tensors: Iterable[str]) -> Session:
    """Open a model file that also gives tensors inside it, all optimisations off; raises InputError as `open_file`."""
    model = with_float32_ends(onnx.load(path, load_external_data=False))
    given = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in given)
    try:
        options = session_options(folder=path.parent)
        return Session(ort.InferenceSession(model.SerializeToString(), options, providers=CPU))
    except Exception as error:  # onnxruntime raises a class a failure, with no common base of its own
        raise InputError(f"{path.name}: ONNX Runtime cannot run it: {first_line(error)}") from error


def open_nodes(
    graph: FloatGraph,
    nodes: Sequence[onnx.NodeProto],
    outputs: Iterable[str],
    constants: Constants,
    numerics: Numerics = Numerics.SHIPPED,
    types: Mapping[str, int] | None = None,
    providers: Sequence[str] = CPU,
    entries: Mapping[str, str] | None = None,
) -> Session:
    """Open some nodes of a written plan as a session of their own.

    Inputs are the tensors that the nodes read, or `outputs` names, and the nodes do not write. Large constants are
    handed to ONNX Runtime as they are in memory instead of through a serialized model, or mapped from the float graph's
    file.

    Args:
        graph: the float graph: opset, types, and constants that are not among `constants`.
        nodes: the nodes, in topological order.
        outputs: the tensors to compute.
        constants: constants by name.
        numerics: what ONNX Runtime may optimise.
        types: element types of inputs and outputs that the float graph does not know and that are not float32.
        providers: execution providers, the preferred one first.
        entries: session options of a runtime, by key.

    Raises InputError for a provider that is not there, or does not start.

    """
    outputs = list(outputs)
    produced = {name for node in nodes for name in node.output}
    wanted = [name for node in nodes for name in [*node.input, *outer_names(node)] if name] + outputs
    read = dict.fromkeys(name for name in wanted if name not in produced)
    fixed = dict.fromkeys(name for name in read if name in constants or name in graph.initializers)
    shaped = numerics is Numerics.FAST  # a sum of convolutions fuses only where shapes are known to be equal
    model = _model(graph, nodes, [name for name in read if name not in fixed], outputs, types or {}, shaped)
    options = session_options(numerics, graph.folder, entries)
    injected = {}
    for name in fixed:
        if name not in constants:
            model.graph.initializer.append(graph.initializers[name])
        elif constants[name].nbytes <= INLINE_BYTES or constants[name].dtype.kind == "V":  # no numpy type of its own
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(constants[name], order="C"), name))
        else:
            model.graph.initializer.append(declared_constant(name, constants[name], "in-memory"))
            injected[name] = ort.OrtValue.ortvalue_from_numpy(np.asarray(constants[name], order="C"))
    if injected:
        options.add_external_initializers(list(injected), list(injected.values()))
    check_providers(providers)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=list(providers))
    for name in providers:
        if name not in session.get_providers():  # where it cannot, ONNX Runtime takes the next one and only logs that
            raise InputError(f"execution provider {name!r} does not start here; leave it out of --providers")
    return Session(session)


def check_providers(providers: Sequence[str]) -> None:
    """Raise InputError for an execution provider that ONNX Runtime has not got here."""
    available = ort.get_available_providers()
    for name in providers:
        if name not in available:
            raise InputError(f"execution provider {name!r} is not available here; there are {', '.join(available)}")


def _model(
    graph: FloatGraph,
    nodes: Sequence[onnx.NodeProto],
    inputs: Iterable[str],
    outputs: Iterable[str],
    types: Mapping[str, int],
    shaped: bool,
) -> onnx.ModelProto:
    model = onnx.ModelProto(ir_version=graph.model.ir_version)
    model.opset_import.extend(graph.model.opset_import)
    model.functions.extend(graph.model.functions)
    model.graph.name = "part"
    model.graph.node.extend(nodes)
    for name in inputs:
        known = graph.values.get(name) if shaped else None
        model.graph.input.append(_typed(graph, name, types) if known is None else known)
    model.graph.output.extend(_typed(graph, name, types) for name in outputs)
    return model


def _typed(graph: FloatGraph, name: str, types: Mapping[str, int]) -> onnx.ValueInfoProto:
    """A tensor's declaration without a shape; what a plan adds to the float graph is float32 unless it is told."""
    value = graph.values.get(name)
    if value is not None and not value.type.HasField("tensor_type"):
        return value  # a sequence or an optional
    known = types.get(name) or graph.element_type(name)
    return onnx.helper.make_tensor_value_info(name, known or onnx.TensorProto.FLOAT, None)
