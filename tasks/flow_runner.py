"""The runner of a flow run: its workspace looked at, its executor chosen."""

from __future__ import annotations

from quant_core.execution.machine import available_cores
from tasks.cache.workspace import Workspace
from tasks.executors.choice import ExecutorKind
from tasks.executors.flow_executor import executor_of_flow
from tasks.head_start import end_head_start
from tasks.prefect_runner import PrefectRunner

__all__ = ["runner_of_flow"]


def runner_of_flow(
    workspace: str | None, workers: int | None, kind: ExecutorKind | None = None, address: str | None = None
) -> PrefectRunner:
    """Return what calls stages as tasks of the flow that is running; use it in a `with` block.

    From here on no step is begun ahead of its task.

    Args:
        workspace: folder or URL where results of steps are kept; by default the user's.
        workers: threads or processes that compute at once; by default all cores.
        kind: what runs fan-outs; by default the flow's own task runner, or threads.
        address: of a cluster, or the deployment of a pool.

    Raises InputError for a workspace that cannot be written to, and for an executor that cannot be had.

    """
    place = Workspace.at(workspace)
    place.check()
    place.clear_leftovers()
    end_head_start()
    count = workers or available_cores()
    return PrefectRunner(place, count, executor_of_flow(kind, address, count))
