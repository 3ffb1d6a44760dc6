"""A run that asks a person: nothing is published before an answer, and then just the plan that was chosen."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import FlowRunSort

from flows.auto_with_approval import auto_with_approval
from flows.ui.approval_form import plans_to_choose
from quant_core.config import config_from
from quant_core.errors import InputError
from quant_core.results.outcome import open_outcome

POLL_SECONDS = 0.1


@pytest.fixture(autouse=True)
def quick_poll(monkeypatch):
    """Looks for an answer more often than every ten seconds."""
    from flows.ui import approval_form

    wait = approval_form.pause_flow_run
    monkeypatch.setattr(approval_form, "pause_flow_run", lambda **given: wait(poll_interval=POLL_SECONDS, **given))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """Where the runs of all tests keep their steps, so that only the first computes them."""
    return tmp_path_factory.mktemp("workspace")


class Waiting:
    """A run in a thread, which waits for its answer."""

    def __init__(self, job, folder: Path, workspace: Path, **changed) -> None:
        self.output, self.workspace, self.came = folder / "out", workspace, []
        target = {"metric": "l2", "limit": 0.005}
        given = {part: job[part] for part in ("model", "calibration", "evaluation")}
        given |= {"config": config_from(target=target, wide="a16w16", lift="none", per_channel=False), "workers": 1}
        given |= {"output": str(self.output), "workspace": str(workspace), **changed}
        self.thread = threading.Thread(target=lambda: self.came.append(auto_with_approval(**given, return_state=True)))
        self.thread.start()
        self.run_id = self._paused()

    def _paused(self) -> UUID:
        with get_client(sync_client=True) as client:
            for _ in range(300):
                for run in client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1):
                    if run.state.is_paused() and (self.workspace / "candidates" / str(run.id)).exists():
                        return run.id
                time.sleep(0.1)
        raise AssertionError(f"it does not wait for an answer: {self.came}")

    @property
    def candidate(self) -> Path:
        return self.workspace / "candidates" / str(self.run_id)

    def answered(self, **answer: str) -> str:
        """Whether the server takes an answer."""
        with get_client(sync_client=True) as client:
            return client.resume_flow_run(self.run_id, run_input=answer).status.value

    def ended(self):
        self.thread.join(60)
        (state,) = self.came
        return state


def test_the_plan_that_a_person_chooses_is_published_after_a_wrong_answer_was_refused(job, tmp_path, workspace):
    run = Waiting(job, tmp_path, workspace)
    assert not run.output.exists()
    choices = plans_to_choose(open_outcome(run.candidate))
    proposed = open_outcome(run.candidate).plan.digest
    text, digest = next((text, digest) for text, digest in choices.items() if digest != proposed)
    assert run.answered(decision="publish", plan="the best one") == "REJECT" and not run.output.exists()
    assert run.answered() == "REJECT", "an empty form publishes nothing"
    assert run.answered(decision="publish", plan=text, reason="more headroom") == "ACCEPT"
    assert run.ended().is_completed()
    published = open_outcome(run.output)
    assert published.plan.digest == published.manifest.picked_plan == digest
    assert published.met and published.manifest.target.limit == 0.005


def test_who_declines_publishes_nothing(job, tmp_path, workspace):
    run = Waiting(job, tmp_path, workspace)
    assert run.answered(decision="decline", reason="not this week") == "ACCEPT"
    state = run.ended()
    assert (state.name, state.message) == ("Declined", "not this week") and not run.output.exists()
    assert json.loads((run.candidate / "manifest.json").read_text())["target"]["met"], "it is there for another look"


def test_without_an_answer_in_time_nothing_is_published(job, tmp_path, workspace):
    run = Waiting(job, tmp_path, workspace, answer_hours=1 / 3600)
    assert run.ended().is_failed() and not run.output.exists()


def test_no_time_to_answer_in_is_refused(job, tmp_path):
    with pytest.raises(InputError, match="answer_hours: 0 is not a time to answer in; give a positive number"):
        auto_with_approval(**job, config=config_from(target={"metric": "l2", "limit": 1}), output="x", answer_hours=0)
