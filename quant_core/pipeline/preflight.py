"""Looks at everything a run is given before any work: what cannot be used is refused at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from quant_core.config import RunConfig, SearchConfig
from quant_core.errors import InputError
from quant_core.execution.machine import memory_budget
from quant_core.model.data.fitted_data import fitted
from quant_core.model.data.labels import check_labels
from quant_core.model.graph import FloatGraph, nodes_inside
from quant_core.model.inner_tensors import inner_names
from quant_core.model.layers import layers_from_table
from quant_core.model.model_file import read_model
from quant_core.model.opset import opset_of
from quant_core.model.preparation.fixed_inputs import fixed_values
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.sessions import check_providers
from quant_core.model.signature import Signature
from quant_core.model.states import signature_said
from quant_core.pipeline.candidates.candidate_layers import candidate_layers
from quant_core.pipeline.candidates.rungs import rungs_above
from quant_core.pipeline.job import QuantizationJob
from quant_core.precision import Precision
from quant_core.runtimes.profile import PrecisionOption
from quant_core.runtimes.registry import profile_of
from quant_core.scoring.compared import check_classes, compared, layers_compared
from quant_core.scoring.evaluator import Evaluator
from quant_core.scoring.user_function import load_function
from quant_core.storage.data import open_columns
from quant_core.storage.folders import check_folder, usable_folder
from quant_core.storage.references import fetch

__all__ = ["check_job", "check_prepared"]


def check_job(job: QuantizationJob[RunConfig], cache: Path) -> None:
    """Raise InputError for a model, data, metric, folder or memory budget that cannot be used.

    Data are unpacked into the cache on the way. The output folder is not made yet.
    """
    memory_budget()
    check_providers(job.config.providers)
    _check_precisions(job.config)
    if job.config.metric_function:
        load_function(job.config.metric_function)
    if evaluator := Evaluator.of(job.config):
        evaluator.check()
    if job.config.timer:
        from quant_core.latency import load_timer  # and all that times models, which few runs do

        load_timer(job.config.timer)
    path = fetch(job.model, usable_folder(cache, "workspace"))
    graph = FloatGraph(read_model(path, job.model.url), path.parent)
    _check_opset(graph, job.config.runtime)
    _check_data(graph, job, cache)
    job.output.check()
    check_folder(job.output.folder, "output folder")


def check_prepared(layers: pa.Table, job: QuantizationJob[RunConfig], cache: Path) -> None:
    """Raise InputError for data, device costs, names and a plan that do not fit the prepared model.

    It knows the shapes that the file leaves open.
    """
    graph = prepared_graph(layers, cache)
    _check_data(graph, job, cache)
    if job.config.device_costs is not None:
        from quant_core.pipeline.costs import check_device_costs  # and all that times models, which few runs do

        check_device_costs(job, layers, cache)
    candidate_layers(layers, job.config, cache)
    if job.assignment is not None:
        job.assignment.plan(graph, layers_from_table(layers), job.config.wide)


def _check_precisions(config: RunConfig) -> None:
    """Raise InputError for a precision or an option that the runtime has not got, or one that is not installed."""
    profile = profile_of(config.runtime)
    _check_timing(config)
    profile.check_package()
    profile.check_options(config.model_dump())
    profile.check_layers(config.layer_ops, config.ladder)
    chosen: dict[PrecisionOption, Sequence[Precision]] = {
        "wide": config.ladder[:1],
        "narrow": config.ladder[1:],
        "lift": rungs_above(config),
    }
    for option, precisions in chosen.items():
        for precision in precisions:
            if why := profile.why_not(precision, option):
                raise InputError(f"runtime: {why}")


def _check_timing(config: RunConfig) -> None:
    """Raise InputError for times that are not to be had here."""
    profile = profile_of(config.runtime)
    if profile.is_simulator and config.times_models and config.device_costs is None and config.timer is None:
        option = "cost" if config.counts_latency else "time_models"
        raise InputError(
            f"{option}: {profile.name} is run in a simulator here, whose times say nothing about the device: "
            "give --timer, a function of yours that times a file there"
        )
    if config.time_batch > 1 and not config.times_models and not profile.is_timed_here:
        raise InputError(f"time_batch: nothing is timed for {profile.name}; add --time-models, or leave it out")


def _check_opset(graph: FloatGraph, runtime: str) -> None:
    """Raise InputError for a model that is newer than the runtime's compiler."""
    profile, found = profile_of(runtime), opset_of(graph.model)
    if profile.newest_opset is not None and found > profile.newest_opset:
        raise InputError(
            f"runtime: {runtime} takes models up to opset {profile.newest_opset}, and this one has opset {found}: "
            f"export it with opset {profile.newest_opset}"
        )


def _check_data(graph: FloatGraph, job: QuantizationJob[RunConfig], cache: Path) -> None:
    """Raise InputError unless all data fit the graph, as far as it declares what it wants."""
    config = job.config
    seen = Signature.of(graph).elements is not None  # what can be found of the outputs is found
    inside = [] if seen else inner_names(graph, config.output)
    if inside and config.format != "qdq":
        raise InputError(f"output: {inside[0]!r} is inside the model, where {config.format} merges nodes; use qdq")
    outputs = None if inside else compared(graph, config.output)
    if seen and outputs:
        _refuse_random_outputs(graph, outputs.names)
        for option in _that_need_classes(config):
            check_classes(graph, config.output, option)
    signature, fixed = _signature(graph, config), list(fixed_values(graph.model, config.fix_inputs_of(graph.inputs)))
    fitted(graph, open_columns(job.calibration, cache), signature, fixed)
    for reference in filter(None, [job.evaluation, job.holdout]):
        dataset = fitted(graph, open_columns(reference, cache), signature, fixed)
        known = outputs and (seen or (outputs.classes.known and not config.classes))
        if outputs and known and any(target.metric == "top1_drop" for target in config.targets):
            check_labels(graph, dataset, outputs.names[outputs.classes.output], signature)


_RANDOM = frozenset(
    ["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"]
)


def _refuse_random_outputs(graph: FloatGraph, outputs: Sequence[str]) -> None:
    """Refuse outputs that random numbers go into: each run gives others, and a difference would say nothing."""
    for node in graph.nodes:
        drawn = next((one.op_type for one in (node, *nodes_inside(node)) if one.op_type in _RANDOM), None)
        if drawn and node.name in layers_compared(graph, outputs):
            raise InputError(
                f"output: what is compared ({', '.join(outputs)}) is computed from random numbers ({drawn} in "
                f"{node.name!r}), so no two runs agree; have them given by an input, or compare what is in front of "
                "them: --output NAME"
            )


def _that_need_classes(config: RunConfig) -> list[str]:
    """Return what is asked for that is over classes, in words."""
    metrics = {"kl": "a KL target", "top1_drop": "a top-1 target"}
    found = [metrics[target.metric] for target in config.targets if target.metric in metrics]
    return [*found, "--rank kl"] if isinstance(config, SearchConfig) and config.rank == "kl" else found


def _signature(graph: FloatGraph, config: RunConfig) -> Signature:
    """Return the roles of inputs and outputs, as found on first samples or as declared."""
    found = Signature.of(graph)
    if found.elements is not None:
        return found
    return signature_said(graph, config.sample_axis, config.classes, config.states)
