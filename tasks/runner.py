"""Which kind of runner a fan-out is given to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from quant_core.errors import InputError

__all__ = ["THREADS", "Runner", "RunnerKind"]

RunnerKind = Literal["thread", "process", "dask", "ray"]

_WITH_ADDRESS = ("dask", "ray")


@dataclass(frozen=True)
class Runner:
    """What runs the calls of a fan-out. No result depends on it."""

    kind: RunnerKind = "thread"
    """`thread` and `process` run on this machine, `dask` and `ray` on a cluster."""
    address: str | None = None
    """Where the cluster is; by default it is one of this machine's own, for the time of the run."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(RunnerKind):
            raise InputError(f"runner {self.kind!r} is not known; there are {', '.join(get_args(RunnerKind))}")
        if self.address is not None and self.kind not in _WITH_ADDRESS:
            raise InputError(
                f"runner-address {self.address}: the runner {self.kind} is on this machine and has none; "
                f"leave it out, or choose {' or '.join(_WITH_ADDRESS)}"
            )


THREADS = Runner()
"""Threads of this process."""
