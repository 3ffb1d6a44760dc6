"""Which runs are there at the same time, and what becomes of them where one stops."""

from __future__ import annotations

from threading import Event
from time import sleep

import pytest

from flows.watch.staggered_runs import Call, staggered
from tasks.turns import current_turn


def run(name, events, until=None, raises=None):
    """A run that computes, waits for an event and ends."""

    def called():
        turn = current_turn()
        events.append(f"{name} begins")
        turn.take()
        events.append(f"{name} computes")
        if raises is not None:
            raise raises
        sleep(0.02)  # the next one would compute, if it could
        turn.give_back()
        if until is not None:
            assert until.wait(5)
        events.append(f"{name} ends")
        return name

    return called


def test_a_run_computes_while_the_one_before_it_ends():
    events, computes = [], Event()
    waits = run("b", events)

    def second():
        current_turn().take()
        computes.set()
        return waits()

    calls = [Call(run("a", events, until=computes), True), Call(second, True), Call(run("c", events), True)]
    assert list(staggered(calls)) == ["a", "b", "c"]
    assert events.index("c begins") > events.index("a ends"), "no more than two are there"


@pytest.mark.parametrize("overlap", [(True, False), (False, True)])
def test_a_run_that_may_not_overlap_is_there_alone(overlap):
    events = []
    calls = [Call(run(name, events), one) for name, one in zip("ab", overlap, strict=True)]
    assert list(staggered(calls)) == ["a", "b"]
    assert events == [f"{name} {what}" for name in "ab" for what in ("begins", "computes", "ends")]


def goes_on(stopped):
    """A run of many stages, none of which is the last."""

    def called():
        try:
            while True:
                current_turn().take()
                sleep(0.001)
        except KeyboardInterrupt:
            stopped.append(True)
            raise

    return called


def test_runs_end_at_their_next_stage_where_no_more_is_asked_for():
    events, stopped = [], []
    results = staggered([Call(one, True) for one in (run("a", events), goes_on(stopped), run("c", events))])
    assert next(results) == "a"
    results.close()
    assert stopped and "c begins" not in events


def test_what_stops_one_run_stops_the_other():
    stopped = []
    calls = [Call(run("a", [], raises=KeyboardInterrupt()), True), Call(goes_on(stopped), True)]
    with pytest.raises(KeyboardInterrupt):
        list(staggered(calls))
    assert stopped


def test_nothing_to_run_is_no_result():
    assert list(staggered([])) == []
