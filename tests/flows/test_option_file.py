"""Files of options: what is wrong in them, by line; the schema they are checked by; the file that `init` writes."""

import json
import os
import re
import sys
from pathlib import Path
from unittest.mock import patch

import jsonschema
import onnx
import pytest
import yaml

import flows
from flows import command_line
from flows.options.catalogue import auto_options
from flows.options.option_file import read_option_file
from flows.options.run_options import INPUTS, LIMITS, OF_THE_TARGET, configuration, options_from_file, run_options
from flows.options.template import option_schema, option_template
from quant_core.budget import BUDGETS
from quant_core.config import MixedPrecisionConfig
from quant_core.errors import InputError
from quant_core.validation import MistakesError
from tests.models import MODELS

MISTAKES = """\
model: [a.onnx]
calibration: c.npz
evaluation:
out: out
serach: linear
wide: a9w8
narrow: [a8w8, a8w7]
max_l2: some
max_kl: little
metric: accuracy
percentile: 20
batch-size: 0
workers: many
symmetric: perhaps
out: again
"""
SAID = [
    "q.yaml:1: model: must be a path, not ['a.onnx']",
    "q.yaml:3: evaluation: is not filled in; give the path of a file or folder",
    "q.yaml:5: serach: is not an option; did you mean search?",
    "q.yaml:6: wide: precision 'a9w8' is not known: write a16w8, a8w8, ",
    "q.yaml:7: narrow.1: precision 'a8w7' is not known: ",
    "q.yaml:8: max_l2: Input should be a valid number, unable to parse string as a number",
    "q.yaml:9: max_kl: Input should be a valid number, unable to parse string as a number",
    "q.yaml:10: metric: --max-metric-drop and --metric pkg.mod:fn go together",
    "q.yaml:11: percentile: Input should be greater than 50",
    "q.yaml:12: batch_size: Input should be greater than or equal to 1",
    "q.yaml:13: workers: must be a number of threads, not 'many'",
    "q.yaml:14: symmetric: Input should be a valid boolean, unable to interpret input",
    "q.yaml:15: out: is there twice, first on line 4",
]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mistakes(text, **given):
    Path("q.yaml").write_text(text)
    with pytest.raises(MistakesError) as wrong:
        run_options(options_from_file("q.yaml", MixedPrecisionConfig), given, MixedPrecisionConfig)
    return list(wrong.value.lines)


def test_every_mistake_is_told_with_its_line(here):
    found = mistakes(MISTAKES)
    assert len(found) == len(SAID) == 13
    for line, said in zip(found, SAID):
        assert line.startswith(said)


def test_the_command_line_prints_a_line_a_mistake_and_exits_with_2(here, capfd):
    Path("q.yaml").write_text(MISTAKES)
    arguments = ["narrowcast", "auto", "--config", "q.yaml"]
    with patch.dict(os.environ), patch.object(sys, "argv", arguments), pytest.raises(SystemExit) as stop:
        command_line.main()
    output, errors = capfd.readouterr()
    assert (stop.value.code, output) == (2, "")
    lines = errors.splitlines()
    assert len(lines) == 13
    assert all(re.match(r"narrowcast: q\.yaml:\d+: \w", line) for line in lines)


WHOLE = "model: m\ncalibration: c\nevaluation: e\nout: o\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_l2: 1\nnarrow: [a8w8, a16w8]", ["q.yaml:6: narrow: a16w8 is not narrower than a8w8"]),
        (
            "max_l2: 1\ncalibrate: minmax\npercentile: 99",
            [
                "q.yaml:7: percentile is for calibrate='percentile', not for 'minmax'; leave it out",
            ],
        ),
        (
            "max_l2: 1\ncalibrate: minmax\npercentile: 99\nblock_size: 24",
            [
                "q.yaml:7: percentile is for calibrate='percentile', not for 'minmax'; leave it out",
                "q.yaml:8: block_size must be a power of two, which runtimes ask for, not 24",
            ],
        ),
        ("target: {metric: l2, limti: 1}", ["q.yaml:5: target.limti: is not an option; did you mean limit?"]),
        ("max_metric_drop: 1", ["q.yaml:5: max_metric_drop: --max-metric-drop and --metric pkg.mod:fn go together"]),
        ("", ["q.yaml: give one target: --max-top1-drop"]),
        (
            "max_bops: 0.4\nmax_bytes: 0.4\ncost: latency",
            ["q.yaml:7: cost: with max_bops and max_bytes it must be 'bops' or 'bytes', not 'latency'; leave it out"],
        ),
        (
            "max_bytes: 4000",
            ["q.yaml:5: max_bytes: 4000 is not a share of the wide model's up to 1 (0.4) or an amount"],
        ),
        ("max_bops: 0.4\nmetric: l3", ["q.yaml:6: metric: Input should be 'top1_drop', 'l2'"]),
        ("max_bops: 0.4\nconfidence: 0.9", ["q.yaml:6: confidence: needs a target to meet; give one: --max-top1"]),
        ("max_bops: 0.4\ncost: bytes", ["q.yaml:6: cost: with max_bops it must be 'bops', not 'bytes'; leave it out"]),
        ("max_l2: 1\nrunner: threads", ["q.yaml:6: runner 'threads' is not known; there are thread, "]),
    ],
)
def test_how_options_go_together_is_looked_at_too(here, text, said):
    found = mistakes(WHOLE + text)
    assert len(found) == len(said)
    assert all(part in line for part, line in zip(said, found))


def test_a_mistake_of_the_command_line_has_no_line(here):
    assert mistakes(WHOLE + "max_l2: 1\nwide: a9w8", wide="a7w7")[0].startswith("wide: precision 'a7w7' is not known")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("narrow: [a8w8", "q.yaml:1: is not YAML: expected ',' or ']'"),
        ("a: 1\n\tb: 2", "q.yaml:2: is not YAML: found character '\\t'"),
        ("- a\n- b", "q.yaml: expected options like `narrow: a8w8`, one a line"),
        ("a: !!python/object/apply:os.system [ls]", "q.yaml:1: is not YAML: could not determine a constructor"),
        ("a: &a [*a]\nb: &b [*a, *b, *b]", None),
        ("", "q.yaml: expected options like"),
    ],
)
def test_what_is_no_file_of_options_is_refused(here, text, said):
    Path("q.yaml").write_text(text)
    if said is None:
        assert len(read_option_file("q.yaml", ["a", "b"]).lines) < 20
        return
    with pytest.raises(InputError) as refused:
        options_from_file("q.yaml", MixedPrecisionConfig)
    assert str(refused.value).startswith(said)


# --- the schema ----------------------------------------------------------------------------------------------------


def test_the_published_schema_is_that_of_the_options():
    published = json.loads((Path(flows.__file__).parent / "options.schema.json").read_text())
    assert published == option_schema(), "narrowcast init --schema > flows/options.schema.json"
    jsonschema.Draft202012Validator.check_schema(published)


def test_the_schema_has_every_option_there_is():
    names = {*INPUTS, *MixedPrecisionConfig.model_fields, *LIMITS, *OF_THE_TARGET}
    assert set(option_schema()["properties"]) == names


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (WHOLE + "max_l2: 1\nnarrow: a8w8,a8w4\nsamples: 64", True),
        (WHOLE + "target: {metric: cosine, limit: 0.01}\nnarrow: [a8w8, a8w4]", True),
        (WHOLE + "max_l2: 1\nmax_kl: 1", True),
        (WHOLE + "max_l2: 1\ntarget: {metric: kl, limit: 1}", False),
        (WHOLE + "max_l2: some", False),
        (WHOLE + "serach: linear", False),
        (WHOLE + "search: guess", False),
        (WHOLE + "wide: a9w8", False),
        (WHOLE + "metric: m:f", False),
        (WHOLE + "max_bops: 0.4\nmetric: kl", True),
        (WHOLE + "max_bytes: 300kB\nmax_l2: 1", True),
        (WHOLE + "max_bops: 0.4\nmax_latency: 2ms", False),
        (WHOLE + "max_bytes: 300000", False),
    ],
)
def test_the_schema_knows_right_from_wrong(text, valid):
    validator = jsonschema.Draft202012Validator(option_schema())
    assert validator.is_valid(yaml.safe_load(text)) == valid


# --- init ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def written(here):
    onnx.save(MODELS["several-inputs-and-outputs"](), "my model.onnx")
    return option_template("my model.onnx", {})


def test_init_writes_a_file_that_needs_only_data(here, written):
    filled = written.replace("calibration:", "calibration: c.npz").replace("evaluation:", "evaluation: e.npz")
    Path("q.yaml").write_text(filled)
    inputs, config = run_options(options_from_file("q.yaml", MixedPrecisionConfig), {}, MixedPrecisionConfig)
    assert {name: value for name, value in inputs.items() if value} == {
        "model": "my model.onnx",
        "calibration": "c.npz",
        "evaluation": "e.npz",
        "out": "quantized",
    }
    assert config == configuration({"min_sqnr": 20.0})
    jsonschema.validate(yaml.safe_load(filled), option_schema())


def test_init_with_the_data_writes_a_file_that_needs_nothing(here, written, command):
    places = {"calibration": "c: d.npz", "evaluation": "é#.npz", "holdout": "h.npz", "out": "to"}
    flags = [part for name, place in places.items() for part in (f"--{name}", place)]
    code, text, errors = command("init", "my model.onnx", *flags)
    assert (code, errors) == (0, "")
    Path("q.yaml").write_text(text, encoding="utf-8")
    inputs, _ = run_options(options_from_file("q.yaml", MixedPrecisionConfig), {}, MixedPrecisionConfig)
    assert {name: value for name, value in inputs.items() if value} == places | {"model": "my model.onnx"}
    assert "FILL IN" not in text


def test_init_tells_what_to_fill_in(written):
    found = mistakes(written)
    line = 1 + [text.startswith("calibration:") for text in written.splitlines()].index(True)
    assert found[0] == f"q.yaml:{line}: calibration: is not filled in; give the path of a file or folder"
    assert "evaluation: is not filled in" in found[1]


def test_init_has_every_option_at_its_default_and_axes_as_they_were_found(here, written):
    """Taking the comment signs away changes nothing: axes are said that are found anyway."""
    given = ("model", "calibration", "evaluation", *LIMITS, *BUDGETS, *OF_THE_TARGET, "holdout")
    names = [option.name for option in auto_options()]
    text = WHOLE + "min_sqnr: 20\n"
    for name in names:
        assert re.search(rf"^(# )?{name}:", written, re.M), name
        if name not in given and (line := re.search(rf"^# ({name}: .+)$", written, re.M)):
            text += line[1] + "\n"
    assert text.count("\n") > 15
    Path("q.yaml").write_text(text)
    assert run_options(options_from_file("q.yaml", MixedPrecisionConfig), {}, MixedPrecisionConfig)[1] == configuration(
        {"min_sqnr": 20.0, "sample_axis": "image=0,vector=0,index=0,y=0,z=0,w=0", "classes": "y=1"}
    )


def test_init_tells_of_inputs_and_outputs(written):
    assert re.search(r"output 0: \w+ \[", written)
    assert "yaml-language-server: $schema=" in written
