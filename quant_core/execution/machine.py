"""What a step may use of the machine it runs on. Nothing here changes a result, unless memory is very short."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import ByteSize, TypeAdapter, ValidationError

from quant_core.errors import InputError

__all__ = ["Machine", "available_cores", "default_cache", "default_workspace", "memory_budget"]


@dataclass(frozen=True)
class Machine:
    """Where a step keeps files, and how many threads it may run."""

    cache: Path
    """A folder for files that are named by their digest: prepared models, unpacked data."""
    workers: int = 1
    """Threads that compute at the same time."""

    @property
    def memory(self) -> int:
        """Bytes that each thread may fill, half with a batch's activations and half with open sessions."""
        return memory_budget() // max(available_cores(), self.workers)


def available_cores() -> int:
    """Cores this process may run on: what affinity and the control group's quota leave, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(min(cores, round(int(quota) / int(period))), 1)
    except (OSError, ValueError):  # no control group, or "max"
        return cores


def memory_budget() -> int:
    """Bytes that a run may fill with activations and sessions: NARROWCAST_MEMORY, else a quarter of what there is.

    That is the machine's memory, or its control group's. Raises InputError for what is no size.
    """
    given = os.environ.get("NARROWCAST_MEMORY")
    if given is None:
        return _memory() // 4
    try:
        budget = int(TypeAdapter(ByteSize).validate_python(given))
    except ValidationError:
        budget = 0
    if budget <= 0:
        raise InputError(f"NARROWCAST_MEMORY is {given!r}; it must be a size, such as 2GiB or 500MB")
    return budget


_ASSUMED_MEMORY = 8 << 30  # where the system does not tell


def _memory() -> int:
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else _ASSUMED_MEMORY
    try:
        return min(installed, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no control group, or "max"
        return installed


def default_workspace() -> str:
    """Where steps are kept unless the user says otherwise: NARROWCAST_WORKSPACE, else the user's cache folder."""
    return os.environ.get("NARROWCAST_WORKSPACE") or str(default_cache())


def default_cache() -> Path:
    """Return where copies of remote files are kept: NARROWCAST_CACHE, else the user's cache folder."""
    given = os.environ.get("NARROWCAST_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(base) / "narrowcast"
