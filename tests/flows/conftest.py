"""A Prefect server for the tests of the flows, and a small job for them to run."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import pytest
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from flows import command_line
from flows.auto_mixed_precision import auto_mixed_precision
from quant_core.config import config_from
from tests.models import MODELS, samples

MIXED = 0.005
"""A limit on L2 that the model misses with all layers narrow (0.0063) and meets with some."""


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    """A server of the tests' own."""
    with prefect_test_harness(server_startup_timeout=120), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
        yield


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of a model and its data, as parameters of the flow."""
    folder = tmp_path_factory.mktemp("job")
    model = MODELS["chain"]()
    onnx.save(model, folder / "model.onnx")
    calibration = samples(model, 12)
    # Evaluated on samples that calibration saw, so that clipping does not hide what the types do.
    evaluation = {name: array[:8] for name, array in calibration.items()}
    parts = {"calibration": calibration, "evaluation": evaluation, "holdout": samples(model, 5, seed=1)}
    for part, arrays in parts.items():
        np.savez(folder / f"{part}.npz", **arrays)
    return {"model": str(folder / "model.onnx"), **{part: str(folder / f"{part}.npz") for part in parts}}


def quantize(job: dict[str, str], folder: Path, out: str, workspace: str, **changed: Any) -> dict[str, Any]:
    """Run the flow on the job with some parameters and options changed; the manifest."""
    options = {name: changed.pop(name) for name in ("narrow", "rank", "samples") if name in changed}
    target = {"metric": changed.pop("metric", "l2"), "limit": changed.pop("limit", MIXED)}
    config = config_from(target=target, wide="a16w16", lift="none", per_channel=False, **options)
    given = {**job, "workers": 1, **changed}
    places = {"output": out, "workspace": workspace}
    places = {name: place if "://" in place else str(folder / place) for name, place in places.items()}
    return auto_mixed_precision(config=config, **places, **given)


@pytest.fixture
def run(job: dict[str, str], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs the flow in the test's own workspace; the manifest."""

    def ran(out: str = "out", workspace: str = "workspace", **changed: Any) -> dict[str, Any]:
        return quantize(job, tmp_path, out, workspace, **changed)

    return ran


@pytest.fixture(scope="session")
def finished_job(job: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    quantize(job, folder, "out", "workspace")
    return folder


@pytest.fixture
def finished(finished_job: Path, tmp_path: Path) -> bytes:
    """Lets the test begin where a first run has ended, in a copy of its folders; the model's bytes."""
    shutil.copytree(finished_job, tmp_path, dirs_exist_ok=True)
    return (tmp_path / "out" / "model.onnx").read_bytes()


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line in this process: exit code, standard output, standard error."""

    def ran(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with patch.dict(os.environ), patch.object(sys, "argv", ["narrowcast", *arguments]):
            try:
                command_line.main()
                code = 0
            except SystemExit as stop:
                code = stop.code
        return code, *capfd.readouterr()

    return ran
