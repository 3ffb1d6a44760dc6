"""Makes the manifest and the output folder out of everything that a finished run knows."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa

from quant_core.config import Criterion, RunConfig, SearchConfig
from quant_core.config.criterion import OWN_METRICS
from quant_core.execution.engine_version import engine_version
from quant_core.execution.runner import Runner
from quant_core.latency import LATENCY
from quant_core.manifest import (
    Costs,
    Data,
    Input,
    Latency,
    Manifest,
    Narrowed,
    Samples,
    Scores,
    Sources,
    Work,
)
from quant_core.pipeline.candidates.block_splitting import probes_of
from quant_core.pipeline.candidates.candidate_layers import slow_layers
from quant_core.pipeline.finished_run.assurance import target_record
from quant_core.pipeline.finished_run.chosen_weights import chosen_weights
from quant_core.pipeline.finished_run.deployment import deployment, milliseconds_of
from quant_core.pipeline.finished_run.findings import Findings
from quant_core.pipeline.finished_run.output_scores import output_scores
from quant_core.pipeline.finished_run.plan_summary import (
    budgets_kept,
    calibration_with_types,
    cost_summaries,
    narrow_precisions,
    narrowed,
)
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.picking.frontier import frontier_table
from quant_core.pipeline.plans.study import Study
from quant_core.pipeline.plans.trial import target_values
from quant_core.results.outcome import Outcome
from quant_core.results.output_folder import output_file, write_folder
from quant_core.scoring.metrics import METRICS, scores_of
from quant_core.scoring.own_scores import standard_errors
from quant_core.scoring.worst_samples import worst_samples
from quant_core.storage.schemas import LAYER_LATENCY, WEIGHTS
from quant_core.storage.tables import facts
from quant_core.urls import redacted

__all__ = ["manifest_of", "write_output"]


def write_output(findings: Findings[RunConfig], on: Runner) -> Outcome:
    """Write the output folder of a run."""
    manifest, tables = manifest_of(findings, on), _tables(findings, on)
    on.finish()
    return write_folder(findings.study.job.output, manifest, tables, findings.shipped.file, on.machine.cache)


def _tables(findings: Findings[RunConfig], on: Runner) -> dict[str, pa.Table]:
    study, plan, cache = findings.study, findings.shipped.plan, on.machine.cache
    return {
        "layers": study.layers,
        "calibration": calibration_with_types(study.calibration, study.layers, plan, study.job.config, cache),
        "sensitivity": findings.ranking,
        "search": study.table(),
        "samples": _worst_samples(findings, on),
        **_layer_latency(study),
        **_frontier(study),
    }


def _layer_latency(study: Study[RunConfig]) -> dict[str, pa.Table]:
    """Return what layers take, where that is the cost (schema LAYER_LATENCY)."""
    cost = study.costs.get(LATENCY)
    if cost is None:
        return {}
    rows = [
        {"layer": layer, "precision": str(precision), "milliseconds": price}
        for (layer, precision), price in cost.prices.items()
    ]
    return {"latency": pa.Table.from_pylist(rows, schema=LAYER_LATENCY)}


def _worst_samples(findings: Findings[RunConfig], on: Runner) -> pa.Table:
    study, shipped, job = findings.study, findings.shipped, findings.study.job
    return worst_samples(
        shipped.file,
        study.layers,
        study.baseline,
        shipped.scores,
        job.evaluation,
        job.config.target.metric,
        on.machine,
        job.config.runtime,
    )


def _frontier(study: Study[RunConfig]) -> dict[str, pa.Table]:
    """Return what `pick` needs of a run that kept its frontier: the plans, and the weights they were measured with."""
    config = study.job.config
    if not isinstance(config, SearchConfig) or not config.frontier:
        return {}
    return {"frontier": frontier_table(study), "weights": pa.concat_tables([WEIGHTS.empty_table(), *study.weights])}


def manifest_of(findings: Findings[RunConfig], on: Runner) -> Manifest:
    """Return the manifest of a run; the digests of its tables and its seal come when the folder is written."""
    study, shipped = findings.study, findings.shipped
    job, config = study.job, study.job.config
    held_out = None if findings.held_out is None else findings.held_out.scores
    costs = _costs(findings)
    return Manifest(
        narrowcast=engine_version(),
        job="auto" if isinstance(config, SearchConfig) else "layer-wise",
        input=Input(sha256=job.model.sha256),
        output=output_file(shipped.file, on.machine.cache),
        wide=str(config.wide),
        narrow=tuple(str(precision) for precision in narrow_precisions(config, shipped.plan)),
        target=target_record(study, shipped, held_out),
        **budgets_kept(config, costs),
        scores=_scores(findings),
        outputs=output_scores(study.layers, study.baseline, study.wide.scores, shipped.scores, on.machine.cache),
        deployed=deployment(findings, on),
        standard_errors=_standard_errors(findings),
        samples=Samples(evaluation=shipped.scores.num_rows, holdout=None if held_out is None else held_out.num_rows),
        plan=shipped.plan.as_dict(),
        tensors=shipped.plan.tensor_types(),
        float_tensors=study.float_tensors if shipped.plan.tensors else (),
        narrowed=_narrowed(findings, on),
        improvements=study.improvements,
        weights=chosen_weights(shipped.plan, study.weights),
        costs=costs,
        latency=_latency(findings, findings.times) if findings.times is not None and config.times_models else None,
        work=_work(findings, on),
        seconds={name: round(seconds, 3) for name, seconds in on.seconds.items()},
        data=_data(job),
        sources=_sources(job, on.machine.cache),
        config=config.model_dump(mode="json"),
        environment=_environment(),
    )


def _scores(findings: Findings[RunConfig]) -> Scores:
    study, held_out = findings.study, findings.held_out
    return Scores(
        float=_float_scores(study),
        wide=_listed(study, study.wide.scores, study.baseline),
        mixed=_listed(study, findings.shipped.scores, study.baseline),
        holdout={} if held_out is None else _listed(study, held_out.scores, held_out.baseline),
    )


def _listed(study: Study[RunConfig], scores: pa.Table, baseline: pa.Table) -> dict[str, float]:
    """Return a model's scores by metric, the user's own among them."""
    return scores_of(scores) | target_values(study.job.config, scores, baseline)


def _float_scores(study: Study[RunConfig]) -> dict[str, float]:
    wide = study.wide.scores
    found = {"top1": _float_top1(wide)} if wide.column("top1").null_count == 0 else {}
    target = study.job.config.own_target
    if study.job.config.metric_function:
        found["metric"] = facts(study.baseline)["metric"]
    if target.is_own:
        found[_own_name(target)] = _mean(facts(study.baseline)["float_score"])
    return found


def _own_name(target: Criterion) -> str:
    """Return the metric that the evaluator's score itself is."""
    return "score" if target.metric in OWN_METRICS[:2] else "low_score"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _float_top1(scores: pa.Table) -> float:
    values = scores.column("float_top1").to_numpy()
    return float(values.sum()) / len(values)


def _standard_errors(findings: Findings[RunConfig]) -> Scores:
    """Return the standard errors of the scores, over samples; a user's own metric has none."""
    wide, mixed, target = findings.study.wide.scores, findings.shipped.scores, findings.study.job.config.own_target
    known = Scores(float=_float_errors(wide), wide=standard_errors(target, wide), mixed=standard_errors(target, mixed))
    if findings.held_out is None:
        return known
    return known.model_copy(update={"holdout": standard_errors(target, findings.held_out.scores)})


def _float_errors(wide: pa.Table) -> dict[str, float]:
    scores = wide.rename_columns({"float_top1": "top1", "top1": "wide_top1"})
    labelled = scores.column("top1").null_count == 0
    error = METRICS["top1"](scores).score.standard_error if labelled else None
    return {} if error is None else {"top1": error}


def _narrowed(findings: Findings[RunConfig], on: Runner) -> Narrowed:
    study, plan, config = findings.study, findings.shipped.plan, findings.study.job.config
    found = narrowed(study.layers, plan, study.wide.plan, config.wide, study.costs["bops"])
    return found.model_copy(update={"slow": slow_layers(study.layers, config, on.machine.cache)})


def _costs(findings: Findings[RunConfig]) -> Costs:
    study = findings.study
    found = cost_summaries(study.costs.values(), findings.shipped.plan, study.wide.plan)
    return Costs(objective=study.job.config.cost, **found)


def _latency(findings: Findings[RunConfig], times: pa.Table) -> Latency:
    """Return the times of the models (schema MODEL_TIMES), and how much faster the shipped one is."""
    study, config = findings.study, findings.study.job.config
    taken = milliseconds_of(times)
    return Latency(
        unit="ms",
        threads=1,
        **taken,
        speedup=taken["float"] / taken["mixed"] if taken["mixed"] else 1.0,
        batch=config.time_batch,
        timer=config.timer,
        predicted=study.costs[LATENCY].total(findings.shipped.plan) if config.counts_latency else None,
    )


def _work(findings: Findings[RunConfig], on: Runner) -> Work:
    probes = probes_of(findings.ranking)
    return Work(
        probes=len(probes),
        probe_samples=sum(probes),
        evaluations=len(findings.study.tried),
        cached_steps=on.cached,
        computed_steps=on.computed,
    )


def _data(job: QuantizationJob[RunConfig]) -> Data:
    return Data(
        calibration=job.calibration.sha256,
        evaluation=job.evaluation.sha256,
        holdout=None if job.holdout is None else job.holdout.sha256,
        random=job.random_data,
    )


def _sources(job: QuantizationJob[RunConfig], cache: Path) -> Sources:
    """Return where things were, as the user wrote it, without what may be secret; nothing for data in memory."""
    given = {"model": job.model, "calibration": job.calibration, "evaluation": job.evaluation}
    if job.holdout:
        given["holdout"] = job.holdout
    places = {name: reference.url for name, reference in given.items() if not reference.url.startswith(str(cache))}
    return Sources(**{name: redacted(url) for name, url in places.items()}, output=str(job.output))


def _environment() -> dict[str, str]:
    packages = ["onnx", "onnxruntime", "numpy", "pyarrow"]
    return {"python": platform.python_version(), "machine": platform.machine()} | {
        name: version(name) for name in packages
    }
