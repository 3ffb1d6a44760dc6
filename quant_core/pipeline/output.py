"""The output folder: the model, its manifest, the tables and the report."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa

from quant_core.config import RunConfig, SearchConfig
from quant_core.execution.runner import Runner
from quant_core.latency import times_summary
from quant_core.model.layers import Layer, layers_from_table
from quant_core.model.prepare import prepared_graph
from quant_core.model.stored_model import DATA_FILE, MODEL_FILE
from quant_core.pipeline.assurance import assurance
from quant_core.pipeline.findings import Findings
from quant_core.pipeline.frontier import frontier_table
from quant_core.pipeline.job import QuantizationJob
from quant_core.pipeline.study import Study, target_score
from quant_core.precision import Precision, PrecisionPlan
from quant_core.probing.ranking import macs_share
from quant_core.report import report_page
from quant_core.report.verdict import is_met
from quant_core.results.manifest_file import manifest_json, sealed
from quant_core.results.outcome import FRONTIER_TABLES, Outcome
from quant_core.results.output_place import MANIFEST, OutputPlace
from quant_core.results.tensor_types import with_tensor_types
from quant_core.scoring.metrics import METRICS, scores_of
from quant_core.search import within
from quant_core.search.cost import CostModel, cost_summary
from quant_core.storage.references import Reference, atomic_copy, atomic_write, fetch, file_digest, made_folder
from quant_core.storage.tables import WEIGHTS, facts, to_ipc
from quant_core.urls import shown

__all__ = [
    "Outcome",
    "budget_kept",
    "calibration_shown",
    "engine_version",
    "narrowed",
    "output_file",
    "write_folder",
    "write_output",
]


def write_output(findings: Findings[RunConfig], on: Runner) -> Outcome:
    """Write the output folder of a run."""
    study, shipped = findings.study, findings.shipped
    manifest = _manifest(findings, on)
    tables = {
        "layers": study.layers,
        "calibration": calibration_shown(
            study.calibration, study.layers, shipped.plan, study.job.config, on.machine.cache
        ),
        "sensitivity": findings.ranking,
        "search": study.table(),
        **_frontier(study),
    }
    return write_folder(study.job.output, manifest, tables, shipped.file, on.machine.cache)


def write_folder(
    place: OutputPlace, manifest: Mapping[str, Any], tables: Mapping[str, pa.Table], file: Reference, cache: Path
) -> Outcome:
    """Write a folder with a model and all that is known of it, the manifest last: one with a manifest is complete."""
    folder = made_folder(place.folder)
    (folder / MANIFEST).unlink(missing_ok=True)
    files = {name: to_ipc(table) for name, table in tables.items()}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = sealed({**manifest, "tables": digests})
    page = report_page(manifest, tables)
    _copy_model(fetch(file, cache), file, folder)
    atomic_write(folder / "report.html", page.encode())
    for name in FRONTIER_TABLES:
        (folder / f"{name}.arrow").unlink(missing_ok=True)
    for name, data in files.items():
        atomic_write(folder / f"{name}.arrow", data)
    atomic_write(folder / MANIFEST, manifest_json(manifest).encode())
    place.publish()
    return Outcome(folder, PrecisionPlan.from_dict(manifest["plan"], manifest["tensors"]), is_met(manifest), manifest)


def _frontier(study: Study[RunConfig]) -> dict[str, pa.Table]:
    """What `pick` needs of a run that kept its frontier: the plans, and the weights they were measured with."""
    config = study.job.config
    if not isinstance(config, SearchConfig) or not config.frontier:
        return {}
    return {"frontier": frontier_table(study), "weights": pa.concat_tables([WEIGHTS.empty_table(), *study.weights])}


def _copy_model(path: Path, file: Reference, folder: Path) -> None:
    """The model last: where it is, all that belongs to it is."""
    if not file.beside:
        (folder / DATA_FILE).unlink(missing_ok=True)
    for name in [*file.beside, MODEL_FILE]:
        atomic_copy(path.with_name(name), folder / name)


def _manifest(findings: Findings[RunConfig], on: Runner) -> dict[str, Any]:
    job, study, shipped = findings.study.job, findings.study, findings.shipped
    config, file = job.config, fetch(shipped.file, on.machine.cache)
    return {
        "narrowcast": engine_version(),
        "job": "auto" if isinstance(config, SearchConfig) else "layer-wise",
        "input": {"sha256": job.model.sha256},
        "output": output_file(file, shipped.file.beside),
        "wide": str(config.wide),
        "narrow": [str(precision) for precision in _narrow(config, shipped.plan)],
        "target": {
            "metric": config.target.metric,
            "limit": config.target.limit,
            "function": config.target.function,
            "met": shipped.met,
            **assurance(study, shipped, findings.held_out and findings.held_out.scores),
        },
        "budget": budget_kept(
            config, study.cost.unit, *(study.cost.total(plan) for plan in (shipped.plan, study.wide.plan))
        ),
        "scores": _scores(findings),
        "standard_errors": _standard_errors(findings),
        "samples": {
            "evaluation": shipped.scores.num_rows,
            "holdout": findings.held_out and findings.held_out.scores.num_rows,
        },
        "plan": shipped.plan.as_dict(),
        "tensors": shipped.plan.tensor_types(),
        "narrowed": _narrowed(findings),
        "costs": {
            "objective": config.cost,
            **cost_summary(study.costs.values(), shipped.plan, study.wide.plan),
        },
        "latency": None if findings.times is None else times_summary(findings.times),
        "work": {
            "probes": findings.ranking.num_rows,
            "probe_samples": sum(findings.ranking.column("samples").to_pylist()),
            "evaluations": len(study.trials),
            "cached_steps": on.cached,
            "computed_steps": on.computed,
        },
        "seconds": {name: round(seconds, 3) for name, seconds in on.seconds.items()},
        "data": {
            "calibration": job.calibration.sha256,
            "evaluation": job.evaluation.sha256,
            "holdout": job.holdout and job.holdout.sha256,
        },
        "sources": _sources(job, on.machine.cache),
        "config": config.model_dump(mode="json"),
        "environment": _environment(),
    }


def budget_kept(config: RunConfig, unit: str, spent: float, wide: float) -> dict[str, Any] | None:
    """What the model might cost at most, as it was asked for and in the cost's unit; None where nobody asked."""
    if config.budget is None:
        return None
    limit = config.budget.of(wide)
    return {
        "cost": config.cost,
        "asked": str(config.budget),
        "unit": unit,
        "limit": limit,
        "spent": spent,
        "share": spent / wide if wide else 1.0,
        "met": within(spent, limit),
    }


def output_file(path: Path, beside: Sequence[str]) -> dict[str, Any]:
    """Digest of the model file, bytes of all of it; the digests of files beside it where there are any."""
    others = {name: file_digest(path.with_name(name)) for name in beside}
    size = sum(file.stat().st_size for file in [path, *map(path.with_name, beside)])
    return {"sha256": file_digest(path), "bytes": size} | ({"external_data": others} if others else {})


def _narrow(config: RunConfig, plan: PrecisionPlan) -> Sequence[Precision]:
    """The precisions that layers may have beside the wide one: those of the search, or those of the plan."""
    if isinstance(config, SearchConfig):
        return config.narrow
    chosen = dict.fromkeys(precision for _, precision in plan.layers if precision != config.wide)
    return sorted(chosen, key=lambda precision: -precision.bit_product)


def _scores(findings: Findings[RunConfig]) -> dict[str, Any]:
    target, study = findings.study.job.config.target, findings.study
    wide = study.wide

    def listed(scores: pa.Table, baseline: pa.Table) -> dict[str, float]:
        drop = {"metric_drop": target_score(target, scores, baseline).value} if target.function else {}
        return scores_of(scores) | drop

    float_scores = {"top1": _float_top1(wide.scores)} if wide.scores.column("top1").null_count == 0 else {}
    if target.function:
        float_scores["metric"] = facts(study.baseline)["metric"]
    held_out = findings.held_out
    return {
        "float": float_scores,
        "wide": listed(wide.scores, study.baseline),
        "mixed": listed(findings.shipped.scores, study.baseline),
        "holdout": {} if held_out is None else listed(held_out.scores, held_out.baseline),
    }


def _standard_errors(findings: Findings[RunConfig]) -> dict[str, dict[str, float]]:
    """Of the scores, over samples, by the same names; a user's own metric has none."""
    held_out = findings.held_out
    parts = {
        "wide": findings.study.wide.scores,
        "mixed": findings.shipped.scores,
        **({"holdout": held_out.scores} if held_out else {}),
    }
    found = {
        part: {
            name: error
            for name in scores_of(scores)
            if (error := METRICS[name](scores).score.standard_error) is not None
        }
        for part, scores in parts.items()
    }
    top1 = parts["wide"].rename_columns({"float_top1": "top1", "top1": "wide_top1"})
    labelled = top1.column("top1").null_count == 0
    error = METRICS["top1"](top1).score.standard_error if labelled else None
    return {"float": {} if error is None else {"top1": error}} | found


def _sources(job: QuantizationJob[RunConfig], cache: Path) -> dict[str, str]:
    """Where things were, as the user wrote it, without what may be secret; nothing for data given in memory."""
    given = {"model": job.model, "calibration": job.calibration, "evaluation": job.evaluation}
    if job.holdout:
        given["holdout"] = job.holdout
    places = {name: reference.url for name, reference in given.items() if not reference.url.startswith(str(cache))}
    return {name: shown(url) for name, url in places.items()} | {"output": str(job.output)}


def calibration_shown(
    calibration: pa.Table, layers: pa.Table, plan: PrecisionPlan, config: RunConfig, cache: Path
) -> pa.Table:
    """The calibration table with what the report shows of a plan: each tensor's types, and its range in each."""
    graph = prepared_graph(facts(layers)["prepared"], cache)
    narrow = [precision.activations for precision in _narrow(config, plan)]
    kinds = dict.fromkeys([config.wide.activations, *narrow, *(kind for _, kind in plan.tensors)])
    return with_tensor_types(calibration, graph, layers, plan, config.quantization(), list(kinds))


def _float_top1(scores: pa.Table) -> float:
    values = scores.column("float_top1").to_numpy()
    return float(values.sum()) / len(values)


def _narrowed(findings: Findings[RunConfig]) -> dict[str, Any]:
    study, plan = findings.study, findings.shipped.plan
    listed = layers_from_table(study.layers)
    return narrowed(listed, plan, study.wide.plan, study.job.config.wide, study.costs["bops"])


def narrowed(
    layers: Sequence[Layer], plan: PrecisionPlan, wide: PrecisionPlan, precision: Precision, bops: CostModel
) -> dict[str, Any]:
    """How much of the model a plan narrows, against the wide plan of one precision; for the manifest."""
    return {
        "layers": len(plan.changed_from(wide)),
        "of": len(layers),
        "macs_share": macs_share(layers, plan, precision),
        "bops_ratio": bops.ratio(plan, wide),
    }


def _environment() -> dict[str, str]:
    packages = ["onnx", "onnxruntime", "numpy", "pyarrow"]
    return {"python": platform.python_version(), "machine": platform.machine()} | {
        name: version(name) for name in packages
    }


def engine_version() -> str:
    """The installed version of narrowcast."""
    try:
        return version("narrowcast")
    except PackageNotFoundError:  # imported from a source tree that is not installed
        return "0"
