"""What a step may use."""

from pathlib import Path

import pytest

from quant_core.execution.machine import Machine, available_cores, default_workspace


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


def test_a_machine_computes_on_one_thread_unless_told(tmp_path):
    assert Machine(tmp_path).workers == 1
