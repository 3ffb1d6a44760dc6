"""Runs whose plans are scored by what a user wrote: models in a chain, a model in a loop, a command."""

from __future__ import annotations

import json
import shlex
import sys

import numpy as np
import pytest

from quant_core import InputError, LayerWiseConfig, auto_mixed_precision, layer_wise
from quant_core.config import config_from
from quant_core.execution.machine import Machine
from quant_core.execution.progress import Watcher, watched_by
from quant_core.model.sessions import Numerics, open_file
from quant_core.pipeline.picking.pick import pick
from quant_core.results.outcome import open_outcome
from quant_core.scoring.evaluator import SessionFactory
from tests.models import build
from tests.quant_core.workbench import saved

HERE = __name__
COUNT, SIDE, CLASSES, STEPS = 24, 6, 4, 5


def detector():
    """Says where in a picture a bright square begins."""
    return build(
        f"(float[N,1,16,16] x) => (float[N,1,{17 - SIDE},{17 - SIDE}] y) {{ y = Conv(x, w) }}",
        {"w": np.ones((1, 1, SIDE, SIDE), np.float32)},
    )


def recogniser():
    """Says which of the patterns a square holds."""
    return build(
        f"(float[N,1,{SIDE},{SIDE}] x) => (float[N,{CLASSES}] y) {{ f = Flatten(x) h = MatMul(f, w) r = Relu(h) "
        "y = MatMul(r, v) }",
        {"w": patterns().reshape(CLASSES, -1).T.copy(), "v": np.eye(CLASSES, dtype=np.float32)},
    )


def patterns():
    return np.random.default_rng(0).random((CLASSES, 1, SIDE, SIDE), np.float32)


def pictures():
    """Pictures with a square each, dark elsewhere; and the pattern in it."""
    generator = np.random.default_rng(1)
    labels = generator.integers(0, CLASSES, COUNT)
    found = generator.random((COUNT, 1, 16, 16), np.float32) * 0.1
    for picture, label, (row, column) in zip(found, labels, generator.integers(0, 10, (COUNT, 2)), strict=True):
        picture[:, row : row + SIDE, column : column + SIDE] += patterns()[label]
    return found, labels


def squares(detect):
    """What a detector finds in the pictures."""
    shown = pictures()[0]
    heat = detect({"x": shown})["y"].reshape(COUNT, -1).argmax(axis=1)
    places = zip(shown, *np.divmod(heat, 17 - SIDE), strict=True)
    return np.stack([one[:, row : row + SIDE, column : column + SIDE] for one, row, column in places])


def read_right(open_session, labels):
    """Detector, then the model that is evaluated: whether each picture is read right."""
    found = open_session()({"x": squares(open_session("detector.onnx"))})["y"]
    return found.argmax(axis=1) == labels


def decoder():
    """One step of a recurrent decoder: the scores of the next token, and the state after this one."""
    generator = np.random.default_rng(3)
    weights = {
        name: generator.standard_normal(shape, np.float32)
        for name, shape in {"e": (9, 16), "w": (16, 16), "v": (16, 9)}.items()
    }
    body = "k = Gather(e, t) u = MatMul(s, w) a = Add(k, u) n = Tanh(a) y = MatMul(n, v)"
    return build(f"(int64[N] t, float[N,16] s) => (float[N,9] y, float[N,16] n) {{ {body} }}", weights)


def generated(step, first):
    """Tokens that a decoder generates after a first one."""
    token, state, found = first, np.zeros((len(first), 16), np.float32), []
    for _ in range(STEPS):
        scores, state = step({"t": token, "s": state}).values()
        token = scores.argmax(axis=1)
        found.append(token)
    return np.stack(found, axis=1)


def tokens_alike(open_session, labels):
    """The share of generated tokens that are those of the float model, over all sentences: one number."""
    return float((generated(open_session(), open_session.inputs["t"]) == labels).mean())


@pytest.fixture
def reading(tmp_path, monkeypatch):
    """A chain's models, the second of which is quantized, and its data."""
    monkeypatch.chdir(tmp_path)
    saved(detector(), tmp_path).rename("detector.onnx")
    labels = pictures()[1]
    seen = squares(open_file(tmp_path / "detector.onnx"))
    return {
        "model": saved(recogniser(), tmp_path),
        "calibration": {"x": seen},
        "evaluation": {"x": seen, "labels": labels},
    }


@pytest.fixture
def writing(tmp_path):
    """A decoder that writes tokens one by one, and its data."""
    model, generator = saved(decoder(), tmp_path), np.random.default_rng(5)
    feeds = {"t": generator.integers(0, 9, COUNT), "s": np.tanh(generator.standard_normal((COUNT, 16), np.float32))}
    right = generated(open_file(model, Numerics.FAST), feeds["t"])
    return {"model": model, "calibration": feeds, "evaluation": {**feeds, "labels": right}}


def run(given, tmp_path, metric, limit, confidence=None, **options):
    config = config_from(target={"metric": metric, "limit": limit, "confidence": confidence}, **options)
    return auto_mixed_precision(**given, config=config, output=tmp_path / "out", workers=1)


def test_a_detector_and_a_recogniser_are_scored_together_with_a_confidence(reading, tmp_path):
    outcome = run(reading, tmp_path, "score", 0.8, 0.95, evaluator=f"{HERE}:read_right", wide="a16w8", frontier=True)
    by_hand = read_right(SessionFactory(outcome.model, "onnxruntime", {}), pictures()[1])
    target, scores = outcome.manifest.target, outcome.manifest.scores
    assert outcome.met and scores.mixed["score"] == by_hand.mean()
    assert target.metric == "score" and 0.8 <= target.bound <= scores.mixed["score"]
    assert set(scores.float) >= {"score"} and "score_drop" in scores.wide
    assert "Score is" in (tmp_path / "out" / "report.html").read_text()
    data = outcome.manifest.sources
    assert data.evaluation is None  # given in memory, so that a picked plan is not scored again
    picked = pick(open_outcome(tmp_path / "out"), "score", 0.8, tmp_path / "picked", Machine(tmp_path / "cache"))
    assert picked.manifest.scores.mixed["score"] >= 0.8


def test_a_loop_of_generated_tokens_decides_which_layers_are_narrow(writing, tmp_path):
    outcome = run(
        writing, tmp_path, "score_drop", 0.02, evaluator=f"{HERE}:tokens_alike", wide="a16w16", narrow=["a8w8", "a8w4"]
    )
    factory = SessionFactory(outcome.model, "onnxruntime", {"t": writing["evaluation"]["t"]})
    assert outcome.met
    assert outcome.manifest.scores.mixed["score"] == tokens_alike(factory, writing["evaluation"]["labels"]) >= 0.98
    assert outcome.manifest.narrowed.layers > 0
    assert "a8w4" not in {trial["precisions"] for trial in outcome.table("search").to_pylist() if trial["accepted"]}


def test_a_plan_of_the_users_is_told_its_score(writing, tmp_path):
    settings = LayerWiseConfig(evaluator=f"{HERE}:tokens_alike")
    outcome = layer_wise(**writing, tensors={"a8w4": ["*"]}, config=settings, output=tmp_path / "out", workers=1)
    assert outcome.manifest.target.metric == "score" and 0 <= outcome.manifest.scores.mixed["score"] < 0.98


def raises(open_session, labels):
    raise KeyError("no")


def nothing(open_session, labels):
    return float("nan")


def one_too_few(open_session, labels):
    return labels[1:] * 0.5


def a_nan_within(open_session, labels):
    return np.where(np.arange(len(labels)) == 3, np.nan, 1.0)


def words(open_session, labels):
    return ["good"] * len(labels)


def no_file(open_session, labels):
    return open_session("gone.onnx")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("raises", r"raised KeyError: 'no' \(test_evaluators.py, line \d+\)"),
        ("nothing", "returned nan; it must return a finite number"),
        (
            "one_too_few",
            r"returned values of shape \[23\] of 24 samples; it must return a number, or one value a sample",
        ),
        ("a_nan_within", "returned nan of sample 3; it must return finite numbers"),
        ("words", r"returned \['good'.*\]; it must return a number, or one value a sample"),
        ("no_file", r"raised InputError: gone.onnx: no such file \(test_evaluators.py, line \d+\)"),
        ("absent", "cannot be imported"),
    ],
)
def test_an_evaluator_that_fails_is_one_line(reading, tmp_path, function, said):
    with pytest.raises(InputError, match=f"^{HERE}:{function}: {said}") as raised:
        run(reading, tmp_path, "score", 0.8, evaluator=f"{HERE}:{function}")
    assert "\n" not in str(raised.value)


def number(open_session, labels):
    print("one line\nand another")
    return 1


def test_what_an_evaluator_prints_is_told_in_a_line_and_one_number_has_no_confidence(reading, tmp_path, capsys):
    told = []

    class Heard(Watcher):
        def noted(self, message):
            told.append(message)

    with watched_by(Heard()), pytest.raises(InputError, match="^confidence: needs one value a sample"):
        run(reading, tmp_path, "score", 0.8, 0.95, evaluator=f"{HERE}:number")
    assert f"{HERE}:number: printed 2 lines, the last one: and another" in told
    assert capsys.readouterr().out == ""


BOARD = """
import json, sys
from pathlib import Path
quantized = b"QuantizeLinear" in Path(sys.argv[1]).read_bytes()
print("on the board")
print(json.dumps({"score": 0.93 if quantized else 0.95}))
"""


def test_a_command_scores_the_files_that_it_is_handed(reading, tmp_path):
    (tmp_path / "board.py").write_text(BOARD)
    command = f"{shlex.quote(sys.executable)} -S board.py"
    outcome = run(reading, tmp_path, "score_drop", 0.05, evaluate_command=command)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert outcome.met and manifest["scores"]["float"]["score"] == 0.95
    assert manifest["scores"]["mixed"]["score_drop"] == pytest.approx(0.02)
    assert manifest["config"]["evaluate_command"] == command


def test_a_command_that_does_not_know_the_data_scores_no_held_out_data(reading, tmp_path):
    reading["holdout"] = {name: array[:7] for name, array in reading["evaluation"].items()}
    outcome = run(reading, tmp_path, "low_score", 8, evaluate_command="sh -c 'echo 7'")
    assert outcome.manifest.scores.mixed["low_score"] == 7
    assert "l2" in outcome.manifest.scores.holdout and "low_score" not in outcome.manifest.scores.holdout
