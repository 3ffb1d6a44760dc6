"""What one Prefect server pays for a worker, for a run on a work pool and for a task run here, in processor time.

    python -m tests.benchmarks.server_load                # a server on SQLite, on this machine; a minute

It says how many of each one server can serve at most, since it computes on one core: an upper bound, which a
database on another machine moves, and more API servers on one PostgreSQL lift.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

_HEARTBEAT_SECONDS = 30.0
"""Prefect's default of a worker."""


def server_seconds() -> float:
    """Processor time of the server that this process has started, so far."""
    (server,) = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    user, system = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def cost_of(action: Callable[[int], object], count: int) -> float:
    """Return the server's processor time for one of so many calls, after a few that warm it up."""
    for number in range(count // 10 + 1):
        action(-1 - number)
    time.sleep(1)
    before = server_seconds()
    for number in range(count):
        action(number)
    time.sleep(2)  # events are recorded behind the calls
    return (server_seconds() - before) / count


def main() -> int:
    """Measure, and print what follows for many workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    count = parser.parse_args().count
    for name, value in {"PREFECT_LOGGING_LEVEL": "CRITICAL", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}.items():
        os.environ.setdefault(name, value)
    with tempfile.TemporaryDirectory() as home:
        os.environ["PREFECT_HOME"] = home
        from flows.temporary_server import prefect_server

        with prefect_server() as server, server.serving():
            poll, beat, run, task = _costs(count)
    print(f"a worker looks for work: {1000 * poll:.1f} ms; says that it lives: {1000 * beat:.1f} ms")
    print(
        f"a flow run of a pool, from its creation to its end: {1000 * run:.1f} ms; a task run here: {1000 * task:.1f} ms"
    )
    print(f"runs of a pool a second: {1 / run:.0f}; task runs a second: {1 / task:.0f}")
    for query in (10, 60):
        idle = poll / query + beat / _HEARTBEAT_SECONDS
        print(f"workers that look for work every {query} s: {1 / idle:.0f} of them are all that one server can serve")
        for workers in (10, 100, 1000):
            left = 1 - workers * idle
            busy = f"are kept busy by shards of at least {workers * run / left:.1f} s" if left > 0 else "are too many"
            print(f"    {workers} workers {busy}")
    return 0


def _costs(count: int) -> tuple[float, float, float, float]:
    from prefect import flow, get_client, task
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.states import Completed, Pending, Running, Scheduled

    @flow(name="shard", persist_result=False)
    def shard() -> None:
        """What a worker would run."""

    @task(name="step", persist_result=False)
    def step(number: int) -> int:
        return number

    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="pool", type="process"))

        def polls(number: int) -> None:
            client.get_scheduled_flow_runs_for_work_pool("pool")

        def beats(number: int) -> None:
            client.send_worker_heartbeat("pool", f"worker {number % 10}")

        def runs(number: int) -> None:
            """Create a run, take it, begin it, look at it as the run that waits does, and end it."""
            made = client.create_flow_run(shard, parameters={}, state=Scheduled())
            for state in (Pending(), Running()):
                client.set_flow_run_state(made.id, state)
            client.read_flow_run(made.id)
            client.set_flow_run_state(made.id, Completed())

        poll, beat, run = cost_of(polls, count), cost_of(beats, count), cost_of(runs, count)

    @flow(name="many", persist_result=False)
    def many() -> float:
        return cost_of(step, count)

    return poll, beat, run, many()


if __name__ == "__main__":
    sys.exit(main())
