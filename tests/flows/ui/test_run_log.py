"""The log of a run, as Prefect's server has it: what a person reads who opens the run's page."""

from __future__ import annotations

import logging
import time

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.sorting import FlowRunSort

from flows.ui.run_log import logged_run
from quant_core.config import Criterion
from quant_core.errors import TargetError


@pytest.fixture(autouse=True)
def at_info(caplog):
    """Logs as a worker does; tests are silent otherwise."""
    caplog.set_level(logging.INFO, "prefect.flow_runs")


def log_of_the_last_run(expected: str) -> list[str]:
    """Lines of the newest flow run, once one of them holds what is expected: logs reach the server a little later."""
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)
        chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
        for _ in range(100):
            lines = [one.message for one in client.read_logs(chosen) if one.name == "prefect.flow_runs"]
            if any(expected in line for line in lines):
                return lines
            time.sleep(0.2)
    raise AssertionError(f"no line with {expected!r} in {lines}")


def test_a_run_logs_its_stages_its_plans_and_its_verdict(run):
    manifest = run()
    lines = log_of_the_last_run("steps found in the workspace")
    for stage in ("prepare", "calibrate", "probe", "rank", "search", "export", "verify"):
        assert any(line.startswith(f"{stage}: computed, ") and line.endswith(" s") for line in lines), stage
    tried = [line for line in lines if line.startswith("plan with ")]
    assert len(tried) == manifest["work"]["evaluations"]
    assert any("refused" in line for line in tried) and any("accepted" in line for line in tried)
    assert all("L2 distance" in line for line in tried)
    assert f"0 steps found in the workspace, {manifest['work']['computed_steps']} computed" in lines
    assert any("L2" in line and "layers" in line for line in lines[-3:])


def test_a_run_that_computes_nothing_logs_that_all_was_found(run, finished):
    manifest = run()
    lines = log_of_the_last_run("steps found in the workspace")
    assert any(line.startswith("probe: found in the workspace") for line in lines)
    assert not any(": computed" in line for line in lines)
    assert f"{manifest['work']['cached_steps']} steps found in the workspace, 0 computed" in lines


@pytest.mark.parametrize(("error", "is_told_whole"), [(TargetError("missed"), True), (RuntimeError("broken"), False)])
def test_what_its_message_says_whole_ends_a_run_without_a_traceback(error, is_told_whole):
    """Prefect logs what ends a run behind the flow's last line."""
    with logged_run(Criterion(metric="l2", limit=1.0)):
        pass
    record = logging.LogRecord("prefect.flow_runs", logging.ERROR, "", 0, "%r", (error,), (type(error), error, None))
    assert logging.getLogger(record.name).filter(record)
    assert (record.exc_info is None) == is_told_whole
