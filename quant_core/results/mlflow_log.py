"""Logs a finished run to MLflow: options, scores, plan, model and report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from quant_core.errors import InputError, first_line
from quant_core.manifest import Manifest, Part
from quant_core.report.markdown import report_markdown
from quant_core.report.sentences.summary import summary
from quant_core.report.sentences.verdict import claims
from quant_core.results.outcome import Outcome
from quant_core.urls import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["log_to_mlflow"]

_PARTS: tuple[Part, ...] = ("float", "wide", "mixed", "holdout")
_TAG = "narrowcast.manifest"
"""Holds the digest of the manifest: a run is logged once."""
_MOST_LETTERS = 5000
"""Of a tag or a parameter: MLflow takes no more than 6,000."""


def log_to_mlflow(run: Outcome, tracking_uri: str, experiment: str) -> str:
    """Log a run to an experiment, which is made if it is not there; return the id of its run in MLflow.

    A run that is logged already is not logged again. Raises InputError where MLflow is not installed, where its
    tracking store cannot be reached or used, and where a table of the run cannot be read.
    """
    client = _client(tracking_uri)
    tables = run.tables()
    try:
        place = _experiment(client, experiment)
        digest = run.manifest.digest or run.manifest.output.sha256
        known = client.search_runs([place], f"tags.`{_TAG}` = '{digest}' and attributes.status = 'FINISHED'")
        if known:
            return str(known[0].info.run_id)
        note = report_markdown(run.manifest, tables)
        return _logged(client, run, place, {_TAG: digest, "mlflow.note.content": note[:_MOST_LETTERS]})
    except (OSError, ValueError, _mlflow_error()) as error:
        raise _refusal(tracking_uri, error) from None


def _client(tracking_uri: str) -> MlflowClient:
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise InputError("runs are logged by MLflow: pip install 'narrowcast[mlflow]'") from error
    try:
        return MlflowClient(tracking_uri)
    except (OSError, ImportError, ValueError, _mlflow_error()) as error:
        raise _refusal(tracking_uri, error) from None


def _refusal(tracking_uri: str, error: Exception) -> InputError:
    return InputError(f"MLflow at {redacted(tracking_uri)}: {redacted(first_line(error))}")


def _mlflow_error() -> type[Exception]:
    from mlflow.exceptions import MlflowException

    found: type[Exception] = MlflowException
    return found


def _experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if found is None else found.experiment_id)


def _logged(client: MlflowClient, run: Outcome, experiment: str, tags: Mapping[str, str]) -> str:
    """Log all of a run; one that is not logged to the end is marked as failed in MLflow."""
    from mlflow.entities import Metric, Param

    manifest = run.manifest
    name = f"{PurePosixPath(manifest.sources.model or 'model').stem} · {claims(manifest)}"
    made: str = client.create_run(experiment, run_name=name, tags={**_tags(manifest), **tags}).info.run_id
    status = "FAILED"
    try:
        now = client.get_run(made).info.start_time
        metrics = [Metric(metric, value, now, step) for metric, value, step in _metrics(run)]
        client.log_batch(made, metrics, [Param(key, value) for key, value in _options(manifest).items()])
        client.log_dict(made, dict(manifest.plan), "plan.json")
        client.log_artifacts(made, str(run.folder))
        status = "FINISHED"
    finally:
        client.set_terminated(made, status)
    return made


def _tags(manifest: Manifest) -> dict[str, str]:
    """Return what tells runs apart: the outcome, and the digests of what went in and came out."""
    data = {name: digest for name, digest in manifest.data if isinstance(digest, str)}
    return {
        "narrowcast.version": manifest.narrowcast,
        "narrowcast.outcome": summary(manifest).headline,
        "narrowcast.model_sha256": manifest.input.sha256,
        "narrowcast.shipped_sha256": manifest.output.sha256,
        **{f"narrowcast.{name}_sha256": digest for name, digest in data.items()},
    }


def _options(manifest: Manifest) -> dict[str, str]:
    """Return all options that are not empty, and the target's by their own names."""
    target = {f"target.{name}": value for name, value in manifest.target.criterion}
    config = {name: value for name, value in manifest.config.items() if name != "target"}
    return {
        name: str(value)[:_MOST_LETTERS] for name, value in (target | config).items() if value not in (None, [], "")
    }


def _metrics(run: Outcome) -> list[tuple[str, float, int]]:
    """Return scores, shares, size and times, and the score of each plan that was tried by the number of its step."""
    manifest = run.manifest
    found: dict[str, Any] = {
        f"{part}.{name}": value for part in _PARTS for name, value in manifest.scores.of(part).items()
    }
    found |= {
        "layers_narrowed": manifest.narrowed.layers,
        "macs_share": manifest.narrowed.macs_share,
        "bops_ratio": manifest.narrowed.bops_ratio,
        "model_bytes": manifest.output.bytes,
        "target_met": float(manifest.target.met),
    }
    if manifest.latency is not None:
        found |= {f"milliseconds.{part}": getattr(manifest.latency, part) for part in ("float", "wide", "mixed")}
    rows = [(name, value, 0) for name, value in found.items()]
    rows += [(f"search.{manifest.target.metric}", row["score"], row["step"]) for row in run.table("search").to_pylist()]
    return [(name, float(value), step) for name, value, step in rows if value is not None and math.isfinite(value)]
