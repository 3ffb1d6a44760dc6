"""A run's tasks and the head start of another one take turns."""

from __future__ import annotations

from contextlib import ExitStack
from threading import Event, Thread

from tasks.turns import turn_of_head_start, turn_of_task


class Turn:
    """Takes a turn on a thread of its own, until it is over."""

    def __init__(self, turn) -> None:
        self._turn, self.begun, self._over = turn, Event(), Event()
        self._thread = Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        with self._turn():
            self.begun.set()
            self._over.wait()

    def end(self) -> None:
        self._over.set()
        self._thread.join()


def test_a_head_start_waits_for_all_tasks_and_tasks_for_its_step():
    with turn_of_task(), turn_of_task():
        ahead = Turn(turn_of_head_start)
        assert not ahead.begun.wait(0.05)
    assert ahead.begun.wait(5)
    task = Turn(turn_of_task)
    assert not task.begun.wait(0.05)
    ahead.end()
    assert task.begun.wait(5)
    task.end()


def test_a_task_that_waits_comes_before_the_next_step_of_a_head_start():
    with ExitStack() as first:
        first.enter_context(turn_of_head_start())
        task = Turn(turn_of_task)
        assert not task.begun.wait(0.05)
        another = Turn(turn_of_head_start)
        assert not another.begun.wait(0.05)
    assert task.begun.wait(5) and not another.begun.is_set()
    task.end()
    assert another.begun.wait(5)
    another.end()
