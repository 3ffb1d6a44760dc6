"""What a step may use."""

from pathlib import Path

import pytest

from quant_core.errors import InputError
from quant_core.execution import machine
from quant_core.execution.machine import Machine, available_cores, default_workspace, memory_budget


@pytest.fixture
def machine_with(monkeypatch):
    def pretend(cores, quota):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)), raising=False)

        def read(path):
            assert str(path) == "/sys/fs/cgroup/cpu.max"
            if quota is None:
                raise FileNotFoundError
            return quota

        monkeypatch.setattr(Path, "read_text", read)

    return pretend


@pytest.mark.parametrize(
    ("cores", "quota", "expected"),
    [
        pytest.param(8, "max 100000\n", 8, id="no quota"),
        pytest.param(8, None, 8, id="no control group"),
        pytest.param(8, "200000 100000\n", 2, id="quota of two"),
        pytest.param(8, "150000 100000\n", 2, id="quota of one and a half"),
        pytest.param(8, "10000 100000\n", 1, id="a tenth of a core is one"),
        pytest.param(2, "800000 100000\n", 2, id="quota larger than affinity"),
        pytest.param(3, "nonsense", 3, id="unreadable"),
    ],
)
def test_available_cores(machine_with, cores, quota, expected):
    machine_with(cores, quota)
    assert available_cores() == expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"NARROWCAST_WORKSPACE": "/w", "XDG_CACHE_HOME": "/x"}, "/w"),
        ({"NARROWCAST_WORKSPACE": "s3://bucket/w"}, "s3://bucket/w"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/narrowcast"),
        ({"HOME": "/h"}, "/h/.cache/narrowcast"),
    ],
    ids=["named", "remote", "the user's cache folder", "home"],
)
def test_default_workspace(monkeypatch, variables, expected):
    for name in ("NARROWCAST_WORKSPACE", "NARROWCAST_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_workspace() == expected


@pytest.mark.parametrize(
    ("installed", "group", "given", "expected"),
    [
        pytest.param(16, None, None, 4 << 30, id="a quarter of the machine"),
        pytest.param(16, "max\n", None, 4 << 30, id="a group without a limit"),
        pytest.param(16, f"{8 << 30}\n", None, 2 << 30, id="a quarter of the group's limit"),
        pytest.param(16, f"{8 << 30}\n", "3GiB", 3 << 30, id="what the user says"),
        pytest.param(16, None, "500MB", 500_000_000, id="in megabytes"),
    ],
)
def test_memory_budget(monkeypatch, installed, group, given, expected):
    def read(path):
        assert str(path) == "/sys/fs/cgroup/memory.max"
        if group is None:
            raise FileNotFoundError
        return group

    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": installed << 18, "SC_PAGE_SIZE": 4096}.get, raising=False)
    monkeypatch.delenv("NARROWCAST_MEMORY", raising=False)
    if given is not None:
        monkeypatch.setenv("NARROWCAST_MEMORY", given)
    assert memory_budget() == expected


@pytest.mark.parametrize("given", ["lots", "", "0", "-2GiB"])
def test_a_memory_budget_that_is_no_size_is_refused(monkeypatch, given):
    monkeypatch.setenv("NARROWCAST_MEMORY", given)
    with pytest.raises(InputError, match=f"NARROWCAST_MEMORY is '{given}'; it must be a size, such as 2GiB"):
        memory_budget()


def test_threads_have_equal_parts_of_the_memory(monkeypatch, tmp_path):
    monkeypatch.setenv("NARROWCAST_MEMORY", "8GiB")
    monkeypatch.setattr(machine, "available_cores", lambda: 4)
    assert [Machine(tmp_path, workers).memory for workers in (1, 4, 8)] == [2 << 30, 2 << 30, 1 << 30]


def test_a_machine_computes_on_one_thread_unless_told(tmp_path):
    assert Machine(tmp_path).workers == 1
