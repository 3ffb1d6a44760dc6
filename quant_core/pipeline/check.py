"""How a quantized file of any tool does in a runtime: what layers run as, and what that does to its outputs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.config.inputs import NOTHING_SAID, InputsConfig
from quant_core.errors import InputError, first_line
from quant_core.execution.machine import Machine
from quant_core.model.data.batches import batches
from quant_core.model.data.fitted_data import fitted, model_data
from quant_core.model.data.sample_outputs import sample_outputs
from quant_core.model.data.sequences import with_one_state
from quant_core.model.graph import FloatGraph
from quant_core.model.inner_tensors import with_outputs
from quant_core.model.model_file import refer_model
from quant_core.model.preparation.fixed_inputs import with_fixed_inputs
from quant_core.model.preparation.observation import observed_signature
from quant_core.model.sessions import Numerics, OpenModel, open_file
from quant_core.model.signature import Signature
from quant_core.model.states import signature_said
from quant_core.runtimes.kernels import LayerKernel, kernels_of, layer_kernels
from quant_core.runtimes.layer_errors import layer_errors
from quant_core.runtimes.processor import adds_bytes_in_32_bits
from quant_core.runtimes.profile import Finding, RuntimeProfile
from quant_core.runtimes.registry import profile_of
from quant_core.runtimes.saturation import layer_saturation
from quant_core.runtimes.written_model import WrittenModel
from quant_core.scoring.agreement import scores_differ
from quant_core.scoring.compared import compared_of, compared_outputs
from quant_core.scoring.evaluator import Evaluator, SessionFactory
from quant_core.scoring.metrics import scores_of
from quant_core.scoring.terms import sample_terms, terms_table
from quant_core.storage.data import Dataset, DataSource, refer_data, samples_of
from quant_core.storage.references import Reference, fetch, made_folder

__all__ = ["Check", "check_file"]

Outputs = tuple[NDArray[np.intp], list[NDArray[np.generic]]]
"""Numbers of some samples, and their outputs."""

_SAMPLES_OF_LAYERS = 8
"""On so many samples each layer is run alone."""


@dataclass(frozen=True)
class Check:
    """What was found."""

    runtime: str
    """The runtime's name."""
    processor: str
    """Where it was run."""
    compared_with: str
    """What the scores are distances to: `float`, or the file itself as its pairs say (`reference`)."""
    reference: dict[str, float]
    """Scores with all optimisations off."""
    deployed: dict[str, float]
    """Scores as the runtime opens it; empty where it does not run."""
    refusal: str
    """Why it does not run there; empty where it does."""
    differs: bool
    """Whether it does not run, or scores otherwise than the pairs say by more than the samples leave open."""
    kernels: tuple[LayerKernel, ...]
    """What each layer runs as; empty for a runtime that is not run here."""
    others: tuple[LayerKernel, ...]
    """What each other node runs as, pairs and constants left out; empty for a runtime other than ONNX Runtime."""
    errors: dict[str, float]
    """By layer: how far its result is off when it is run alone there, as a share of its magnitude."""
    saturation: dict[str, float]
    """By layer with int8 weights: how far its result would be off on x86 without VNNI, as a share of its magnitude, as
    emulated in integer arithmetic; empty for a runtime that is not run here."""
    saturates_here: bool
    """Whether this processor is such a one; false for a runtime whose sums are not emulated."""
    findings: tuple[Finding, ...]
    """What breaks a rule of the runtime."""
    own: dict[str, float]
    """What the user's evaluator says of the `deployed` and of the `float` model, as far as there are any; of one value
    a sample, the mean."""


def check_file(
    model: str | os.PathLike[str],
    runtime: str,
    evaluation: DataSource,
    float_model: str | os.PathLike[str] | None = None,
    evaluator: Evaluator | None = None,
    said: InputsConfig = NOTHING_SAID,
) -> Check:
    """Check a quantized ONNX file against a runtime, on some data.

    Args:
        model: path or URL of the file.
        runtime: the runtime's name.
        evaluation: the data.
        float_model: path or URL of the float model, to score against.
        evaluator: what else scores it.
        said: what is said of inputs and outputs: axes, states, and inputs that are fixed in either model.

    Raises InputError for an unknown runtime, and for a model, data or an evaluator that cannot be used.

    """
    if evaluator is not None:
        evaluator.check()
    profile = profile_of(runtime)
    profile.check_package()
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder))
        path = _fetched(model, said, machine.cache / "quantized")
        graph = FloatGraph.load(path)
        data = _fitted_data(graph, refer_data(evaluation, machine.cache, role="evaluation"), said, machine.cache)
        simulated = _outputs(open_file(path), graph, data)
        found, refusal = _deployed(path, graph, data, profile)
        against_file = None if float_model is None else _fetched(float_model, said, machine.cache / "float")
        against = simulated if against_file is None else _float_outputs(against_file, graph, data)
        reference, deployed = (_scores(against, outputs, graph, data) for outputs in (simulated, found or simulated))
        layers = profile.kernels is layer_kernels and not refusal
        first = next(batches(graph, data, None, np.arange(min(_SAMPLES_OF_LAYERS, data.count))))
        return Check(
            runtime=runtime,
            processor=profile.place,
            compared_with="reference" if float_model is None else "float",
            reference=scores_of(reference),
            deployed={} if refusal else scores_of(deployed),
            refusal=refusal,
            differs=bool(refusal) or _differs(deployed, reference, float_model is not None),
            kernels=tuple(profile.kernels(path)) if profile.kernels and not refusal else (),
            others=tuple(kernels_of(path)[1]) if layers else (),
            errors=layer_errors(graph, first.feeds) if layers else {},
            saturation=layer_saturation(graph, first.feeds) if layers else {},
            saturates_here=layers and not adds_bytes_in_32_bits(),
            findings=tuple(profile.findings(WrittenModel.of_file(path))),
            own={} if evaluator is None or refusal else _own_scores(evaluator, path, data, runtime, against_file),
        )


def _fetched(model: str | os.PathLike[str], said: InputsConfig, folder: Path) -> Path:
    """Return where a model file is here, or a copy with inputs fixed, or with the tensors that maps are made of."""
    path = with_fixed_inputs(fetch(refer_model(model), made_folder(folder)), said.fix_inputs, folder / "fixed")
    inside = FloatGraph.load(path).inside.values()
    return with_outputs(path, inside, made_folder(folder / "inside")) if inside else path


def _fitted_data(graph: FloatGraph, data: Reference, said: InputsConfig, cache: Path) -> Dataset:
    """Open data as a model wants them, and note in it what inputs and outputs are, as is said and samples show."""
    declared = signature_said(graph, said.sample_axis, said.classes, said.states)
    declared.keep_in(graph.model)
    found = model_data(graph, data, cache)
    observed_signature(graph, with_one_state(graph, declared, found), declared).keep_in(graph.model)
    return found


def _own_scores(
    evaluator: Evaluator, path: Path, data: Dataset, runtime: str, float_model: Path | None
) -> dict[str, float]:
    files = {"deployed": path} | ({} if float_model is None else {"float": float_model})
    inputs = {name: samples_of(column) for name, column in data.columns.items()}
    scores = {name: evaluator.score(SessionFactory(file, runtime, inputs), data) for name, file in files.items()}
    return {name: float(np.mean(score)) for name, score in scores.items()}


_LEAST_SQNR = 40.0
"""In dB: an error of 1% of the outputs. Without a float model nothing else says how much is much."""


_ROUNDING_SQNR = 100.0
"""In dB: what another order of adding up in float32 makes."""


def _differs(deployed: pa.Table, reference: pa.Table, has_float: bool) -> bool:
    if has_float:
        off = [scores_of(scores)["sqnr_db"] for scores in (deployed, reference)]
        return not min(off) >= _ROUNDING_SQNR and scores_differ(deployed, reference, "l2")
    return not scores_of(deployed)["sqnr_db"] >= _LEAST_SQNR


def _deployed(
    path: Path, graph: FloatGraph, data: Dataset, profile: RuntimeProfile
) -> tuple[list[Outputs] | None, str]:
    """Outputs as the runtime has them, or why there are none."""
    try:
        return _outputs(profile.open(path), graph, data), ""
    except Exception as error:  # onnxruntime raises a class a failure, with no common base of its own
        return None, first_line(error)


def _float_outputs(path: Path, quantized: FloatGraph, data: Dataset) -> list[Outputs]:
    graph = FloatGraph.load(path)
    fitted(graph, data, Signature.of(quantized))
    if graph.outputs != quantized.outputs:
        raise InputError(f"{path.name}: has outputs {graph.outputs}, and the quantized model {quantized.outputs}")
    return _outputs(open_file(path, Numerics.FAST), quantized, data)


def _outputs(session: OpenModel, graph: FloatGraph, data: Dataset) -> list[Outputs]:
    """Float outputs of every batch."""
    kept = _kept(graph)
    found = []
    for batch in batches(graph, data):
        outputs = sample_outputs(session, batch, kept)
        found.append((batch.rows, [outputs[name] for name in kept]))
    return found


def _kept(graph: FloatGraph) -> tuple[str, ...]:
    """Return the outputs that are scored: of those with a value for each sample those of floats, if there are any."""
    return compared_outputs(graph, "all")


def _scores(against: Sequence[Outputs], outputs: Sequence[Outputs], graph: FloatGraph, data: Dataset) -> pa.Table:
    """Terms of all samples (schema SCORES); labels only where they are one a sample."""
    labels = data.labels if data.labels is not None and data.labels.ndim == 1 else None
    compared, terms = compared_of(graph, _kept(graph)), []
    for (rows, ours), (_, theirs) in zip(against, outputs, strict=True):
        right = None if labels is None or ours[compared.classes.output].ndim != 2 else labels[rows]
        terms.append(sample_terms(ours, theirs, right, compared))
    return terms_table(terms)
