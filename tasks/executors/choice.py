"""Which kind of executor a fan-out is given to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from quant_core.errors import InputError

__all__ = ["THREADS", "ExecutorChoice", "ExecutorKind"]

ExecutorKind = Literal["thread", "process", "dask", "ray", "pool"]

_WITH_ADDRESS = ("dask", "ray", "pool")
_PROBE_SHARD = "probe-shard/probe-shard"


@dataclass(frozen=True)
class ExecutorChoice:
    """What runs the calls of a fan-out. No result depends on it."""

    kind: ExecutorKind = "thread"
    """`thread` and `process` run on this machine, `dask` and `ray` on a cluster, `pool` on a Prefect work pool."""
    address: str | None = None
    """The cluster's, by default that of a cluster on this machine for the time of the run; of a pool, the deployment
    whose flow runs do the work, probe-shard/probe-shard by default."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(ExecutorKind):
            raise InputError(f"runner {self.kind!r} is not known; there are {', '.join(get_args(ExecutorKind))}")
        if self.address is not None and self.kind not in _WITH_ADDRESS:
            raise InputError(
                f"runner-address {self.address}: the runner {self.kind} is on this machine and has none; "
                f"leave it out, or choose {', '.join(_WITH_ADDRESS)}"
            )

    @property
    def is_elsewhere(self) -> bool:
        """Whether what it runs may be on machines that have none of our files."""
        return self.kind == "pool" or self.address is not None

    @property
    def deployment(self) -> str:
        """The deployment of a pool."""
        return self.address or _PROBE_SHARD


THREADS = ExecutorChoice()
"""Threads of this process."""
