"""What a step may use of the machine it runs on. Nothing here changes a result."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Machine", "available_cores", "default_cache", "default_workspace"]


@dataclass(frozen=True)
class Machine:
    """Where a step keeps files, and how many threads it may run."""

    cache: Path
    """A folder for files that are named by their digest: prepared models, unpacked data."""
    workers: int = 1
    """Threads that compute at the same time."""


def available_cores() -> int:
    """Cores this process may run on: what affinity and the control group's quota leave, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(min(cores, round(int(quota) / int(period))), 1)
    except (OSError, ValueError):  # no control group, or "max"
        return cores


def default_workspace() -> str:
    """Where steps are kept unless the user says otherwise: NARROWCAST_WORKSPACE, else the user's cache folder."""
    return os.environ.get("NARROWCAST_WORKSPACE") or str(default_cache())


def default_cache() -> Path:
    """Where copies of remote files are kept: NARROWCAST_CACHE, else the user's cache folder."""
    given = os.environ.get("NARROWCAST_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(base) / "narrowcast"
