"""Has a deployed run suspended for approval and killed after the answer, against a real server with a worker.

python -m tests.e2e.approval

The run's process ends while it waits. A wrong answer is refused; the worker that takes the run up again is killed, and
another one publishes just the plan that was chosen. A second run is declined.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from quant_core.results.outcome import Outcome, open_outcome
from tests.e2e.prefect_server import PrefectServer, eventually, kill_all_of, prefect_server
from tests.models import MODELS, samples

_TOP = Path(__file__).parents[2]
_LIMIT = 0.005
_DEPLOYMENT = "auto-with-approval"


class ApprovedJob:
    """Runs of the deployment, on a model of the tests."""

    def __init__(self, server: PrefectServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        model = MODELS["chain"]()
        onnx.save(model, folder / "model.onnx")
        np.savez(folder / "data.npz", **samples(model, 12))
        server.environment |= {"NARROWCAST_WORKSPACE": str(folder / "workspace")}
        server.deploy(_DEPLOYMENT, runner="thread", workspace=str(folder / "workspace"))

    def start(self, output: str) -> str:
        """Start a run; its id."""
        (deployment,) = self._ask("/deployments/filter", {"deployments": {"name": {"any_": [_DEPLOYMENT]}}})
        data = {part: str(self.folder / "data.npz") for part in ("calibration", "evaluation")}
        config = {"wide": "a16w16", "lift": [], "per_channel": False, "target": {"metric": "l2", "limit": _LIMIT}}
        given = {
            "model": str(self.folder / "model.onnx"),
            **data,
            "config": config,
            "output": str(self.folder / output),
        }
        return str(self._ask(f"/deployments/{deployment['id']}/create_flow_run", {"parameters": given})["id"])

    def _ask(self, route: str, body: Any) -> Any:
        """Ask a server that may be busy."""
        return eventually(lambda: self.server.post(route, body), 60, f"an answer to {route}")

    def state_of(self, run: str) -> Mapping[str, Any]:
        """The run's state."""
        (found,) = self._ask("/flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        return dict(found["state"])

    def reaches(self, run: str, *names: str) -> None:
        """Wait until the run's state has one of these names."""
        try:
            eventually(lambda: self.state_of(run)["name"] in names, 180, f"{run} is {' or '.join(names)}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self.state_of(run)}") from error

    def answer(self, run: str, **given: str) -> str:
        """Answer the form; whether the server takes it."""
        return str(self._ask(f"/flow_runs/{run}/resume", {"run_input": given})["status"])

    def candidate(self, run: str) -> Outcome:
        """What the run has written for whoever decides."""
        return open_outcome(self.folder / "workspace" / "candidates" / run)


def approve(folder: Path) -> None:
    """Do it all; raises AssertionError where something is not as it should be."""
    from flows.ui.approval_form import plans_to_choose

    with prefect_server(folder / "server") as server:
        job = ApprovedJob(server, folder)
        automations = folder / "automations.yaml"
        content = (_TOP / "deployments" / "automations.yaml").read_text()
        automations.write_text(content.replace("within: 900", "within: 120"))  # as setup.sh has it for processes
        server.prefect("automation", "create", "--from-file", str(automations))
        first = server.worker("first", 1)
        run = job.start("chosen")
        job.reaches(run, "Suspended")
        waited_from = time.monotonic()
        choices = plans_to_choose(job.candidate(run))
        text, digest = list(choices.items())[-1]
        print(f"suspended with {len(choices)} plans to choose from; nothing is published", flush=True)
        assert not (folder / "chosen").exists()
        assert job.answer(run, decision="publish", plan="no plan") == "REJECT"
        assert job.answer(run) == "REJECT"

        declined = job.start("declined")
        job.reaches(declined, "Suspended")
        assert job.answer(declined, decision="decline", reason="not this week") == "ACCEPT"
        job.reaches(declined, "Declined")
        assert not (folder / "declined").exists()
        print("declined while the other waits: it holds no place of the worker", flush=True)

        time.sleep(max(0.0, 110 - (time.monotonic() - waited_from)))
        assert job.state_of(run)["name"] == "Suspended", "a run that waits was taken for lost"
        assert job.answer(run, decision="publish", plan=text, reason="more headroom") == "ACCEPT"
        while job.state_of(run)["name"] not in ("Running", "Completed"):
            time.sleep(0.02)
        kill_all_of(first)
        print(f"killed the worker when the run was {job.state_of(run)['name']}", flush=True)
        server.worker("second", 1)
        job.reaches(run, "Crashed", "Completed")
        print(f"its run is {job.state_of(run)['name']}", flush=True)
        if job.state_of(run)["name"] == "Crashed":
            server.post(f"/flow_runs/{run}/set_state", {"state": {"type": "SCHEDULED"}, "force": True})
            job.reaches(run, "Completed")
        published = open_outcome(folder / "chosen")
        assert published.plan.digest == published.manifest.picked_plan == digest and published.met
        print(f"published as chosen: {text}")


def main() -> int:
    """Run it in a folder of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        approve(Path(name))
    print("all as it should be")
    return 0


if __name__ == "__main__":
    sys.exit(main())
