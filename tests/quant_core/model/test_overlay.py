from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from quant_core.model.overlay import Overlay

KEYS = st.integers(0, 5)
CHANGES = st.lists(st.tuples(KEYS, st.none() | st.integers(0, 2)))


@given(below=st.dictionaries(KEYS, st.integers(0, 2)), changes=CHANGES)
def test_an_overlay_is_a_changed_copy_of_what_lies_below_and_knows_what_differs(below, changes):
    found, copy, before = Overlay(below), dict(below), dict(below)
    for key, value in changes:
        if value is None:
            assert found.pop(key, None) == copy.pop(key, None)
        else:
            found[key] = copy[key] = value
    assert dict(found) == copy and len(found) == len(copy) and below == before
    assert all((key in found, found.get(key)) == (key in copy, copy.get(key)) for key in range(6))
    assert found.differing == {key for key in range(6) if copy.get(key) != before.get(key)}
