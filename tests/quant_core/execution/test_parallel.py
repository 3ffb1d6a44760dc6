"""Batches on several threads, results in order."""

import contextvars
import itertools
import threading
import time

import pytest

from quant_core.execution.parallel import ordered_map

workers = pytest.mark.parametrize("workers", [1, 2, 4])


@workers
def test_results_are_in_the_order_of_the_items(workers):
    def slow_first(item):
        time.sleep(0.02 if item == 0 else 0)
        return item * item

    assert list(ordered_map(slow_first, range(10), workers)) == [item * item for item in range(10)]


def test_that_many_run_at_a_time():
    meeting = threading.Barrier(3, timeout=5)
    assert list(ordered_map(lambda item: meeting.wait() < 3, range(6), 3)) == [True] * 6


@workers
def test_items_are_taken_only_as_they_are_needed(workers):
    taken = itertools.count()
    results = ordered_map(lambda item: item, iter(lambda: next(taken), -1), workers)
    assert next(results) == 0
    assert next(taken) <= workers + 1
    results.close()


@workers
def test_an_exception_reaches_the_caller_and_ends_the_work(workers):
    seen = []

    def fail_at_three(item):
        seen.append(item)
        if item == 3:
            raise ValueError("three")
        return item

    results = ordered_map(fail_at_three, range(1000), workers)
    with pytest.raises(ValueError, match="three"):
        list(results)
    assert len(seen) < 20
    assert threading.active_count() < 10


@workers
def test_the_callers_context_is_seen_inside(workers):
    variable = contextvars.ContextVar("variable", default="none")
    variable.set("mine")
    assert list(ordered_map(lambda item: variable.get(), range(3), workers)) == ["mine"] * 3


@workers
def test_nothing_to_do(workers):
    assert list(ordered_map(str, [], workers)) == []
