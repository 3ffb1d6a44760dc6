"""What a run leaves in Prefect's UI: names, tags and artifacts, also where it computes nothing or misses its target."""

import json

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import FlowRunSort

from flows.auto_mixed_precision import auto_mixed_precision
from flows.ui import artifacts
from flows.ui.artifacts import ProbingProgress, publish
from quant_core.errors import TargetError
from quant_core.execution.progress import Watcher
from quant_core.results.outcome import open_outcome
from tests.reports import HOSTILE, changed, mixed, write_run


def last_run():
    """The newest flow run, its task runs' names, and its artifacts by key."""
    with get_client(sync_client=True) as client:
        [run] = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
        query = {"artifacts": {"flow_run_id": {"any_": [str(run.id)]}}}
        found = client.request("POST", "/artifacts/filter", json=query).json()
        tasks = client.request("POST", "/task_runs/filter", json={"flow_runs": {"id": {"any_": [str(run.id)]}}}).json()
    assert not [task for task in tasks if task["tags"]]
    return (
        run,
        [task["name"] for task in tasks],
        {artifact["key"]: artifact["data"] for artifact in found if artifact["key"]},
    )


KEYS = {"narrowcast-verdict", "narrowcast-sensitivity", "narrowcast-probing", "narrowcast-model", "narrowcast-report"}


def test_a_run_and_its_repetition_show_the_same(run, tmp_path):
    for cached in (False, True):
        manifest = run()
        assert (manifest["work"]["computed_steps"] == 0) == cached
        flow_run, names, found = last_run()
        assert flow_run.name == "model.onnx to a8w8 · l2 <= 0.005"
        assert set(flow_run.tags) == {"narrowcast", "a8w8", "l2"}
        assert found.keys() == KEYS
        assert found["narrowcast-probing"] == 100
        assert "Target met." in found["narrowcast-verdict"] and "**L2 distance**" in found["narrowcast-verdict"]
        rows = json.loads(found["narrowcast-sensitivity"])
        assert [row["layer"] for row in rows] == open_outcome(tmp_path / "out").table("sensitivity")[
            "layer"
        ].to_pylist()
        assert (tmp_path / "out" / "report.html").as_uri() in found["narrowcast-report"]
    assert "prepare model.onnx" in names
    assert any(name.startswith("probe") and "at a8w8 · samples 0-" in name for name in names)


def test_a_missed_target_is_shown_too(run):
    with pytest.raises(TargetError):
        run(limit=1e-9)
    _, _, found = last_run()
    assert "Target missed." in found["narrowcast-verdict"]
    assert found.keys() == KEYS - {"narrowcast-probing"}


def test_names_of_a_model_are_no_markup_and_figures_are_finite(tmp_path, monkeypatch):
    made = {}
    for kind in ("markdown", "table", "link"):
        monkeypatch.setattr(
            artifacts, f"create_{kind}_artifact", lambda data, *rest, key, **more: made.update({key: data})
        )
    manifest, tables = mixed()
    manifest = changed(manifest, {"scores.mixed.l2": None})
    rows = tables["sensitivity"].to_pylist()
    rows[0]["loss"] = float("nan")
    tables["sensitivity"] = type(tables["sensitivity"]).from_pylist(rows, schema=tables["sensitivity"].schema)
    publish(open_outcome(write_run(tmp_path / "<b>run", (manifest, tables))))
    json.dumps(made["narrowcast-sensitivity"], allow_nan=False)
    assert made["narrowcast-sensitivity"][0]["loss"] == "nan"
    assert HOSTILE in [row["layer"] for row in made["narrowcast-sensitivity"]]
    assert made["narrowcast-model"].startswith("file:///") and "<" not in made["narrowcast-model"]


def test_progress_is_told_now_and_then_and_passed_on(monkeypatch):
    now, told, heard = [0.0], [], []
    monkeypatch.setattr(artifacts, "create_progress_artifact", lambda progress, **more: told.append(progress) or "id")
    monkeypatch.setattr(artifacts, "update_progress_artifact", lambda artifact, progress: told.append(progress))

    class Listener(Watcher):
        def advanced(self, stage, units):
            heard.append(units)

    progress = ProbingProgress(Listener(), clock=lambda: now[0])
    progress.advanced("calibrate", 5)
    progress.expects("probe", 100)
    progress.started("probe")
    for _ in range(10):
        now[0] += 0.5
        progress.advanced("probe", 10)
    progress.complete()
    assert told == [40.0, 80.0, 100.0]
    assert heard == [5] + [10] * 10


def test_every_parameter_of_the_form_is_explained():
    schema = auto_mixed_precision.parameters.model_dump()
    assert auto_mixed_precision.description.startswith("Quantize a float ONNX model")
    for name, parameter in schema["properties"].items():
        assert parameter.get("description") or "$ref" in str(parameter), name
    for name, definition in schema["definitions"].items():
        for field, told in definition.get("properties", {}).items():
            assert told.get("description") or "$ref" in str(told), f"{name}.{field}"
