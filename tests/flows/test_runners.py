"""What runs the probes changes nothing of what comes out."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from importlib.util import find_spec
from threading import Thread
from time import sleep

import pytest
from prefect.task_runners import ProcessPoolTaskRunner

from quant_core.errors import InputError
from quant_core.storage.tables import from_ipc
from tasks.executors.choice import ExecutorChoice
from tasks.executors.executor import executor_of


def installed(package):
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


CLUSTERS = [
    pytest.param("dask", marks=installed("prefect_dask")),
    pytest.param("ray", marks=installed("prefect_ray")),
]


def losses(folder):
    """Stored losses of the probes, by the name of the file."""
    files = sorted((folder / "results").glob("probe*"))
    return {path.name: from_ipc(path.read_bytes()).column("losses").to_pylist() for path in files}


@pytest.mark.parametrize("kind", CLUSTERS)
def test_a_cluster_writes_what_threads_do(run, finished, tmp_path, kind):
    manifest = run(out="other", workspace="elsewhere", runner=kind, workers=2)
    assert manifest["work"]["cached_steps"] == 0
    assert (tmp_path / "other" / "model.onnx").read_bytes() == finished
    assert losses(tmp_path / "elsewhere") == losses(tmp_path / "workspace")


def test_what_is_stored_starts_no_process(run, finished, monkeypatch):
    monkeypatch.setattr(ProcessPoolTaskRunner, "__enter__", lambda self: pytest.fail("started"))
    assert run(runner="process", workers=2)["work"]["computed_steps"] == 0


def kill_one_of(workers, killed):
    """Kill a worker process once all are there.

    CPython's pool trips over a process that dies while another is being started (3.11: the dictionary of processes
    changes while it is gone through); what is run again is the same, but a traceback is printed.
    """
    while len(children := multiprocessing.active_children()) < workers:
        sleep(0.01)
    os.kill(children[0].pid, signal.SIGKILL)
    killed.append(children[0].pid)


def test_processes_write_what_threads_do_and_one_that_dies_is_replaced(run, finished, tmp_path):
    killed = []
    killer = Thread(target=kill_one_of, args=(2, killed), daemon=True)
    killer.start()
    run(out="other", workspace="elsewhere", runner="process", workers=2)
    killer.join(timeout=10)
    assert killed
    assert (tmp_path / "other" / "model.onnx").read_bytes() == finished
    assert losses(tmp_path / "elsewhere") == losses(tmp_path / "workspace")


@pytest.mark.parametrize(
    ("kind", "address", "said"),
    [
        ("mpi", None, "runner 'mpi' is not known; there are thread, process, dask, ray, pool"),
        ("process", "tcp://here:1", "runner-address tcp://here:1: the runner process is on this machine"),
    ],
)
def test_a_runner_there_is_not_is_refused(kind, address, said):
    with pytest.raises(InputError, match=said):
        ExecutorChoice(kind, address)


def test_a_runner_whose_package_is_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "prefect_dask.task_runners", None)
    with pytest.raises(InputError, match=r"pip install 'narrowcast\[dask\]'"):
        executor_of(ExecutorChoice("dask"), 1)
