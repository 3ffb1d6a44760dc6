"""Processes that steps run in are all there before there is work."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures.process import BrokenProcessPool

import pytest

from tasks.executors.processes import Processes


def children():
    return {child.pid for child in multiprocessing.active_children()}


def test_all_are_started_before_anything_is_submitted():
    before = children()
    with Processes(max_workers=3):
        assert len(children() - before) == 3
    assert children() <= before


def test_one_that_dies_at_once_is_said_and_leaves_none_behind():
    before = children()
    with pytest.raises(BrokenProcessPool), Processes(max_workers=2, initializer=os._exit, initargs=(1,)):
        pass
    assert children() <= before
