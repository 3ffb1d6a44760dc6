"""Where a model comes from, as Prefect's server has it: assets, told of also by a run that computes nothing."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import FlowRunSort

from flows.ui.lineage import _asset

_MADE, _READ = "prefect.asset.materialization.succeeded", "prefect.asset.referenced"


def assets_of_the_last_run(wanted: int) -> dict[str, dict[str, dict]]:
    """Events by kind and asset of the newest flow run, once there are enough of them."""
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)
        for _ in range(150):
            chosen = {"event": {"name": [_MADE, _READ]}, "related": {"id": [f"prefect.flow-run.{run.id}"]}}
            answer = client.request("POST", "/events/filter", json={"filter": chosen, "limit": 50})
            answer.raise_for_status()
            found = {_MADE: {}, _READ: {}}
            for event in answer.json()["events"]:
                found[event["event"]][event["resource"]["prefect.resource.id"]] = event
            if sum(map(len, found.values())) >= wanted:
                return found
            time.sleep(0.2)
    raise AssertionError(f"fewer than {wanted} assets: {found}")


def assert_lineage(manifest: dict, job: dict[str, str], folder: Path) -> None:
    found = assets_of_the_last_run(6)
    made = {key: event["payload"] for key, event in found[_MADE].items()}
    assert {key: facts["sha256"] for key, facts in made.items()} == {
        f"file://{folder}/out/model.onnx": manifest["output"]["sha256"],
        f"file://{folder}/out/manifest.json": manifest["digest"],
    }
    assert all(facts["input_sha256"] == manifest["input"]["sha256"] for facts in made.values())
    digests = {"model": manifest["input"]["sha256"], **manifest["data"]}
    assert {key: event["resource"]["prefect.asset.description"] for key, event in found[_READ].items()} == {
        f"file://{job[part]}": f"{role}, sha256 {digests[part]}"
        for part, role in {
            "model": "float model",
            "calibration": "calibration data",
            "evaluation": "evaluation data",
            "holdout": "held-out data",
        }.items()
    }


def test_a_run_tells_of_what_it_read_and_what_it_made(run, job, tmp_path):
    assert_lineage(run(), job, tmp_path)


def test_a_run_that_computes_nothing_tells_of_the_same(run, finished, job, tmp_path):
    manifest = run()
    assert manifest["work"]["computed_steps"] == 0
    assert_lineage(manifest, job, tmp_path)


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ("/models/a b%20[1].onnx", "file:///models/a=20b=2520=5B1=5D.onnx"),
        ("s3://bucket/models/a=b.onnx", "s3://bucket/models/a=3Db.onnx"),
        ("https://user:secret@host/a.onnx?token=x", None),
    ],
)
def test_any_place_has_a_key_without_what_may_be_secret(place, key):
    found = _asset(place, "model", "0").key
    assert key in (None, found)
    assert "secret" not in found and "token=3Dx" not in found


def test_two_long_places_have_two_keys():
    one, other = (_asset(f"s3://bucket/{'x' * 600}/{name}", "model", "0").key for name in ("a", "b"))
    assert one != other and max(len(one), len(other)) <= 512
