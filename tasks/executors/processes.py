"""Processes of this machine that steps run in."""

from __future__ import annotations

import sys
from typing import Self

from prefect.task_runners import ProcessPoolTaskRunner

__all__ = ["Processes"]

_AS_NEEDED = "_safe_to_dynamically_spawn_children"
"""What an executor calls the choice between processes started as needed and, as for forked ones, all at first."""


class Processes(ProcessPoolTaskRunner):
    """Prefect's process runner with all its processes started, and one of them heard of, before there is work.

    Left to itself, the pool starts one process with each of the first submissions, which Prefect makes from several
    threads. If another process dies meanwhile, the thread that clears the pool away meets one more process than it
    has counted (`RuntimeError: dictionary changed size during iteration`) and gives up: what was submitted is never
    answered, or the new process, which nobody waits for, finds the pool's semaphores gone.
    """

    def __enter__(self) -> Self:
        """Start them; raises BrokenProcessPool when one dies at once."""
        super().__enter__()
        try:
            executor = self._executor
            if executor is None:
                raise RuntimeError("Prefect's process runner has started without an executor")
            setattr(executor, _AS_NEEDED, False)
            executor.submit(int).result()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self
