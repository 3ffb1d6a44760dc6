"""A finished run in MLflow, in a SQLite file; where the extra is not installed, one line says so."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from quant_core.errors import InputError
from quant_core.results.mlflow_log import log_to_mlflow
from quant_core.results.outcome import open_outcome
from tests.reports import frontier, write_run


@pytest.fixture
def run(tmp_path):
    return open_outcome(write_run(tmp_path / "run", frontier()))


def test_without_the_extra_one_line_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError, match=r"^runs are logged by MLflow: pip install 'narrowcast\[mlflow\]'$"):
        log_to_mlflow(run, "sqlite:///mlflow.db", "narrowcast")


def test_a_run_is_logged_once_with_scores_plan_files_and_the_search_by_steps(run, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra `mlflow`")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    made = log_to_mlflow(run, uri, "nightly")
    assert log_to_mlflow(run, uri, "nightly") == made
    client = mlflow.MlflowClient(uri)
    found = client.get_run(made)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "my model · l2 <= 0.5")
    assert found.data.metrics["mixed.l2"] == 0.49 and found.data.metrics["holdout.l2"] == 0.49
    assert found.data.params["wide"] == "a16w8" and found.data.params["target.limit"] == "0.5"
    assert found.data.tags["narrowcast.shipped_sha256"] == run.manifest.output.sha256
    assert found.data.tags["mlflow.note.content"].startswith("**Target met.**")
    steps = {point.step: point.value for point in client.get_metric_history(made, "search.l2")}
    assert steps == {row["step"]: row["score"] for row in run.table("search").to_pylist()}
    files = {file.path for file in client.list_artifacts(made)}
    assert files == {"plan.json", *(path.name for path in run.folder.iterdir())}
    plan = client.download_artifacts(made, "plan.json", str(tmp_path))
    assert json.loads(Path(plan).read_text()) == dict(run.manifest.plan)


def test_a_store_that_cannot_be_used_is_named_in_one_line(run):
    pytest.importorskip("mlflow", reason="needs the extra `mlflow`")
    with pytest.raises(InputError, match=r"^MLflow at nonsense://there: .+$"):
        log_to_mlflow(run, "nonsense://there", "narrowcast")
