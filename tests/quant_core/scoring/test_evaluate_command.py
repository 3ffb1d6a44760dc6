from __future__ import annotations

import time
from pathlib import Path

import pytest

from quant_core.errors import InputError
from quant_core.scoring.evaluate_command import command_output

MODEL = Path("a folder/net.onnx")


def score(script: str, timeout: float = 30.0):
    return command_output(f"sh -c '{script}' sh", MODEL, "images.npz", timeout)


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo 0.25", 0.25),
        ("echo loading; echo 3", 3),
        ("echo [0, 1]", [0, 1]),
        ('echo "{\\"score\\": 0.5}"', 0.5),
        ('printf "{\\n \\"score\\": [1,\\n 2]\\n}"', [1, 2]),
        ('test "$1" = "a folder/net.onnx" && echo 1', 1),
    ],
)
def test_the_last_line_or_json_is_the_score(script, found):
    assert score(script) == found


def test_the_places_of_model_and_data_are_filled_in():
    assert command_output("sh -c 'test $1 = images.npz && echo 1' sh {data} {model}", MODEL, "images.npz", 9) == 1


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo no board >&2; exit 4", "ended with exit code 4: no board"),
        ("exit 1", "ended with exit code 1: it says nothing"),
        ("echo good", "the last line of its output is 'good'; it must be a number"),
        ("echo true", "the last line of its output is 'true'; it must be a number"),
        ("true", "the last line of its output is empty"),
    ],
)
def test_a_command_that_fails_is_one_line(script, said):
    with pytest.raises(InputError, match=f"^evaluate_command: {said}") as raised:
        score(script)
    assert "\n" not in str(raised.value)


def test_a_command_that_takes_too_long_is_ended_with_what_it_started():
    began = time.monotonic()
    with pytest.raises(InputError, match=r"was ended after 0.2 seconds \(evaluate_timeout\)"):
        score("sleep 60 & sleep 60", 0.2)
    assert time.monotonic() - began < 30


def test_a_command_that_is_not_there_is_said():
    with pytest.raises(InputError, match="no-such-board: No such file"):
        command_output("no-such-board", MODEL, "images.npz", 9)
    with pytest.raises(InputError, match="cannot be read: No closing quotation"):
        command_output("board 'x", MODEL, "images.npz", 9)
