"""The user's own timer: what it is called with, what it may return, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnx
import pytest

from quant_core import MixedPrecisionConfig, auto_mixed_precision
from quant_core.errors import InputError
from quant_core.execution.slots import slots_from
from quant_core.latency import DeviceTimer
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved

BOARD = """
import onnx
seen = []
def narrow_is_fast(model, feeds):
    nodes = onnx.load(model).graph.node
    seen.append((str(model), sorted(feeds)))
    return 10.0 - sum(node.op_type == "DequantizeLinear" for node in nodes) / 10
def raises(model, feeds):
    raise OSError("the board\\nis off")
def nothing(model, feeds): return None
def text(model, feeds): return "3"
def negative(model, feeds): return -1.0
def nan(model, feeds): return float("nan")
def yes(model, feeds): return True
"""


@pytest.fixture
def board(tmp_path, monkeypatch):
    (tmp_path / "board_of_test.py").write_text(BOARD)
    monkeypatch.syspath_prepend(str(tmp_path))
    import importlib

    module = importlib.import_module("board_of_test")
    yield importlib.reload(module)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("raises", r"raised OSError: the board is off \(board_of_test.py, line 9\)$"),
        ("nothing", "returned None; it must return milliseconds, a finite number that is not negative"),
        ("text", "returned '3'; it must"),
        ("negative", r"returned -1\.0; it must"),
        ("nan", "returned nan; it must"),
        ("yes", "returned True; it must"),
        ("missing", "cannot be imported: module 'board_of_test' has no attribute 'missing'"),
        ("seen", "is not a function"),
    ],
)
def test_what_is_no_time_is_told_in_one_line(board, tmp_path, name, told):
    with pytest.raises(InputError, match=f"^board_of_test:{name}: {told}") as raised:
        DeviceTimer(f"board_of_test:{name}").milliseconds(tmp_path, {})
    assert "\n" not in str(raised.value)


def test_it_is_called_while_a_slot_of_its_limit_is_held(board, tmp_path):
    onnx.save(MODELS["chain"](), tmp_path / "m.onnx")
    events: list[str] = []

    @contextmanager
    def slots(limit: str) -> Iterator[None]:
        events.append(f"take {limit} after {len(board.seen)} calls")
        yield
        events.append(f"give {limit} after {len(board.seen)} calls")

    with slots_from(slots):
        DeviceTimer("board_of_test:narrow_is_fast", "npu").milliseconds(tmp_path / "m.onnx", {})
        DeviceTimer("board_of_test:narrow_is_fast").milliseconds(tmp_path / "m.onnx", {})
    assert events == ["take npu after 0 calls", "give npu after 1 calls"]


def test_a_run_saves_the_time_that_the_timer_tells(board, tmp_path):
    model = MODELS["chain"]()
    config = MixedPrecisionConfig(
        target={"metric": "l2", "limit": 100.0},
        wide="float32",
        cost="latency",
        timer="board_of_test:narrow_is_fast",
    )
    data = samples(model, 8)
    outcome = auto_mixed_precision(
        saved(model, tmp_path), calibration=data, evaluation=data, config=config, output=tmp_path / "out", workers=1
    )
    found = outcome.manifest.latency
    assert found.timer == "board_of_test:narrow_is_fast"
    shipped = board.narrow_is_fast(outcome.folder / "model.onnx", {})
    assert found.mixed == pytest.approx(shipped) and found.mixed < found.float == 10.0
    assert found.predicted == pytest.approx(found.mixed, rel=0.05)
    assert all(names == list(data) for _, names in board.seen[:-1])
    assert np.isclose(outcome.manifest.costs.of("latency").mixed, found.predicted)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"timer_limit": "npu", "cost": "latency"}, "timer_limit: is for a timer"),
        ({"timer": "board:fn"}, "timer: nothing is timed"),
        ({"timer": "board.py", "cost": "latency"}, "timer"),
        ({"timer": "board:fn", "cost": "latency", "device_costs": "x.csv"}, None),
    ],
)
def test_a_timer_without_anything_to_time_is_refused(options, told):
    wanted = {"target": {"metric": "l2", "limit": 1.0}, **options}
    if told is None:  # layers by the file, the finished model by the timer
        assert MixedPrecisionConfig(**wanted).timer == "board:fn"
        return
    with pytest.raises(ValueError, match=told):
        MixedPrecisionConfig(**wanted)
