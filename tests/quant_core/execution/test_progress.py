"""Who is told how far a run is."""

import pytest

from quant_core.execution.parallel import ordered_map
from quant_core.execution.progress import Watcher, watched_by, watcher


class Log(Watcher):
    def __init__(self):
        self.units = []

    def advanced(self, stage, units):
        self.units.append((stage, units))


def test_nobody_watches_by_default():
    watcher().started("probe")
    watcher().finished("probe", 1.0, cached=False)
    watcher().expects("probe", 3)
    watcher().advanced("probe", 3)
    watcher().tried("all layers wide", 0.5, True)
    assert type(watcher()) is Watcher


def test_a_watcher_hears_what_happens_in_its_block_alone():
    log = Log()
    with watched_by(log):
        watcher().advanced("probe", 1)
    watcher().advanced("probe", 2)
    assert log.units == [("probe", 1)]


def test_an_inner_watcher_hides_the_outer_one_until_it_leaves():
    outer, inner = Log(), Log()
    with watched_by(outer):
        with pytest.raises(ValueError, match="leave"), watched_by(inner):
            watcher().advanced("inner", 1)
            raise ValueError("leave")
        watcher().advanced("outer", 1)
    assert (outer.units, inner.units) == ([("outer", 1)], [("inner", 1)])


def test_work_on_other_threads_is_heard():
    log = Log()
    with watched_by(log):
        list(ordered_map(lambda units: watcher().advanced("probe", units), range(5), 3))
    assert sorted(log.units) == [("probe", units) for units in range(5)]
