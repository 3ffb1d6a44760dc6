"""Which of the runs that share a process may compute."""

from __future__ import annotations

from threading import Event, Thread

import pytest

from tasks.cache.workspace import Workspace
from tasks.prefect_runner import PrefectRunner
from tasks.turns import Turns, current_turn


class Run:
    """A run on a thread of its own that takes its turn when it is told to."""

    def __init__(self, turns: Turns, alone: bool = False) -> None:
        self.turn, self.alone = turns.next(), alone
        self._calls, self.computes, self._ends = Event(), Event(), Event()
        self.raised: BaseException | None = None
        self._thread = Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self.turn.of_run():
            assert current_turn() is self.turn
            self._calls.wait()
            try:
                self.turn.take(self.alone)
            except KeyboardInterrupt as raised:
                self.raised = raised
                return
            self.computes.set()
            self._ends.wait()

    def take(self) -> Run:
        self._calls.set()
        return self

    def waits(self) -> bool:
        return not self.computes.wait(0.05)

    def has_come(self) -> bool:
        return self.computes.wait(5)

    def end(self) -> None:
        self._calls.set()
        self._ends.set()
        self._thread.join()


def test_runs_compute_in_the_order_in_which_they_began():
    turns = Turns()
    first, second = Run(turns), Run(turns)
    second.take()
    assert second.waits(), "the first has not computed yet"
    assert first.take().has_come() and second.waits()
    first.turn.wait_until_taken()
    first.turn.take()  # its next stage
    first.turn.give_back()
    assert second.has_come(), "the first may still write its report"
    first.end()
    first.turn.wait_until_taken()  # of a run that is over
    second.end()


def test_a_run_that_ends_before_it_has_computed_lets_the_next_one_compute():
    turns = Turns()
    first, second = Run(turns), Run(turns)
    first.end()
    assert second.take().has_come()
    second.end()


def test_what_is_timed_waits_for_runs_that_end_or_begin():
    turns = Turns()
    ends, timed, begins = Run(turns), Run(turns, alone=True), Run(turns)
    assert ends.take().has_come()
    ends.turn.give_back()
    timed.take()
    assert timed.waits(), "one writes its report"
    ends.end()
    assert timed.waits(), "one begins"
    begins.take()
    assert timed.has_come() and begins.waits()
    timed.end()
    assert begins.has_come()
    begins.end()


def test_stopped_runs_end_where_they_would_go_on():
    turns = Turns()
    computes, waits = Run(turns), Run(turns)
    assert computes.take().has_come() and waits.take().waits()
    turns.stop()
    with pytest.raises(KeyboardInterrupt):
        computes.turn.take()
    computes.end()
    waits.end()
    assert waits.raised is not None and not waits.computes.is_set()


def test_a_run_that_shares_its_process_with_none_waits_for_nobody():
    turn = current_turn()
    turn.take()
    turn.take(alone=True)
    turn.give_back()


def test_a_run_that_calls_no_more_stages_lets_the_next_one_compute(tmp_path):
    turns = Turns()
    turn, after = turns.next(), Run(turns)
    with turn.of_run():
        on = PrefectRunner(Workspace.at(str(tmp_path)), 1)
        turn.take()
        assert after.take().waits()
        on.finish()
        assert after.has_come()
    after.end()
