"""What the command line says and returns; a run of it where one is needed, a stand-in where not."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from pydantic_core import SchemaError

from flows import command_line
from quant_core.errors import OutageError
from tests.docs.option_page import option_page
from tests.models import MODELS, build, samples

MODEL = "model.onnx"


@pytest.fixture
def here(job, tmp_path, monkeypatch):
    """A working folder with the job's files under short names."""
    for path in job.values():
        (tmp_path / Path(path).name).write_bytes(Path(path).read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NARROWCAST_WORKSPACE", str(tmp_path / "workspace"))
    return tmp_path


@pytest.fixture
def auto(here, command):
    """Runs `narrowcast auto` on the job with options added (flags: an empty value) or, where None, left out."""

    def ran(model: str = MODEL, **changed: str | None) -> tuple[int, str, str]:
        options = {"calibration": "calibration.npz", "evaluation": "evaluation.npz", "out": "out", "max_l2": "0.5"}
        given = {name: value for name, value in (options | changed).items() if value is not None}
        flags = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value) if part]
        return command("auto", model, *flags)

    return ran


@pytest.fixture
def asked(monkeypatch):
    """What the flow would be asked for, instead of a run of it."""
    calls = []

    def noted(inputs, config):
        calls.append((inputs, config))
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line.run, "_flow_call", noted)
    return calls


# --- bad input: exit code 2, one line that says what and where, nothing written -----------------------------------


def array_file(name, **arrays):
    return lambda: np.savez(name, **arrays)


def x(count=4, **changed):
    shape = changed.get("shape", (3, 8, 8))
    return np.zeros((count, *shape), changed.get("dtype", np.float32))


def with_nan():
    values = x()
    values[2, 0, 3, 3] = np.nan
    return values


def quantized_model():
    return build(
        "(float[N,4] x) => (float[N,4] y) { q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = Relu(d) }",
        {"s": np.float32(0.1), "z": np.int8(0)},
    )


def no_layer():
    return build("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }")


LABELLED = {"evaluation": "data.npz", "max_top1_drop": "0.01", "max_l2": None}
BAD_INPUT = {
    "no such model": (None, {"model": "no.onnx"}, "no.onnx: no such file or folder"),
    "a model that is text": (lambda: Path("t.onnx").write_text("hi"), {"model": "t.onnx"}, "t.onnx: not an ONNX model"),
    "an empty model": (Path("t.onnx").touch, {"model": "t.onnx"}, "t.onnx: not an ONNX model: it holds no graph"),
    "a folder as model": (None, {"model": "."}, ".: is a folder, not an ONNX model"),
    "a quantized model": (
        lambda: onnx.save(quantized_model(), "q.onnx"),
        {"model": "q.onnx"},
        "q.onnx: already quantized (1 QuantizeLinear, 1 DequantizeLinear)",
    ),
    "no such data": (None, {"calibration": "no.npz"}, "no.npz: no such file or folder"),
    "no such folder of data": (None, {"calibration": "no/"}, "no/: no such file or folder"),
    "an empty folder of data": (lambda: Path("d").mkdir(), {"evaluation": "d"}, "d: the folder holds no"),
    "no such held-out data": (None, {"holdout": "no.npz"}, "no.npz: no such file or folder"),
    "data that are text": (lambda: Path("data.npz").write_text("hi"), {"calibration": "data.npz"}, "cannot be read"),
    "data without an input": (
        array_file("data.npz", y=x()),
        {"calibration": "data.npz"},
        "data.npz: has no array 'x' for that model input; it has y",
    ),
    "data of another shape": (
        array_file("data.npz", x=x(shape=(3, 8, 7))),
        {"calibration": "data.npz"},
        "data.npz: x has shape [4, 3, 8, 7], the model wants [N, 3, 8, 8]",
    ),
    "data of another type": (
        array_file("data.npz", x=x(dtype=np.float64)),
        {"calibration": "data.npz"},
        "data.npz: x is float64, the model wants float32",
    ),
    "no samples": (array_file("data.npz", x=x(0)), {"calibration": "data.npz"}, "data.npz: holds no sample"),
    "NaN": (array_file("data.npz", x=with_nan()), {"calibration": "data.npz"}, "x has a NaN or infinity in sample 2"),
    "no labels": (array_file("data.npz", x=x()), LABELLED, "data.npz: has no array 'labels'"),
    "labels of another length": (
        array_file("data.npz", x=x(), labels=np.zeros(3, np.int64)),
        LABELLED,
        "data.npz: arrays are of different length (x: 4, labels: 3)",
    ),
    "labels that are no classes": (
        array_file("data.npz", x=x(), labels=np.full(4, 4)),
        LABELLED,
        "labels run from 4 to 4, output y has classes 0 to 3",
    ),
    "an unknown precision": (None, {"wide": "a9w8"}, "wide: precision 'a9w8' is not known: write a16w8"),
    "narrow as wide as wide": (None, {"narrow": "a16w8"}, "narrow: a16w8 is not narrower than a16w8"),
    "an unknown strategy": (None, {"search": "guess"}, "search: Input should be 'greedy'"),
    "an unknown calibration": (None, {"calibrate": "guess"}, "calibrate: Input should be "),
    "an unknown option": (None, {"serach": "bisect"}, "No such option '--serach'"),
    "an unknown output": (None, {"output": "z"}, "output 'z': the model has outputs 0: y, and no tensor inside"),
    "a limit that is no number": (None, {"max_l2": "nan"}, "max_l2: Input should be a finite number"),
    "no threads": (None, {"workers": "0"}, "Invalid value for '--workers'"),
    "a further limit that is no number": (None, {"max_kl": "nan"}, "max_kl: Input should be a finite number"),
    "no target": (None, {"max_l2": None}, "give one target: "),
    "a metric without its limit": (None, {"metric": "m:f"}, "--max-metric-drop and --metric pkg.mod:fn go together"),
    "a metric that is no function": (
        None,
        {"max_l2": None, "max_metric_drop": "1", "metric": "accuracy"},
        "--metric accuracy: write it as pkg.mod:fn",
    ),
    "a metric that is not there": (
        None,
        {"max_l2": None, "max_metric_drop": "1", "metric": "no_such_module:f"},
        "no_such_module:f: cannot be imported: No module named",
    ),
    "no such option file": (None, {"config": "no.yaml"}, "no.yaml: cannot be read: No such file or directory"),
    "an option file that is no YAML": (
        lambda: Path("c.yaml").write_text("narrow: [a8w8"),
        {"config": "c.yaml"},
        "c.yaml:1: is not YAML: ",
    ),
    "an option file without options": (
        lambda: Path("c.yaml").write_text("hello"),
        {"config": "c.yaml"},
        "c.yaml: expected options",
    ),
    "an unknown key in the option file": (
        lambda: Path("c.yaml").write_text("serach: linear"),
        {"config": "c.yaml"},
        "c.yaml:1: serach: is not an option; did you mean search?",
    ),
    "a path in the option file that is none": (
        lambda: Path("c.yaml").write_text("holdout: [a, b]"),
        {"config": "c.yaml"},
        "holdout: must be a path, not ['a', 'b']",
    ),
    "threads in the option file that are no number": (
        lambda: Path("c.yaml").write_text("workers: two"),
        {"config": "c.yaml"},
        "workers: must be a number of threads, not 'two'",
    ),
    "a file as output folder": (lambda: Path("file").touch(), {"out": "file"}, "output folder file: file is a file"),
    "a file as workspace": (lambda: Path("file").touch(), {"workspace": "file"}, "file is a file, not a folder"),
    "an output folder that cannot be": (None, {"out": "/proc/no/out"}, "output folder /proc/no/out: cannot be made"),
    "a workspace nowhere": (
        None,
        {"workspace": "odd://b/w"},
        "workspace odd://b/w: cannot be used: Protocol not known",
    ),
    "an output folder nowhere": (None, {"out": "odd://b/o"}, "output folder odd://b/o: cannot be used: Protocol"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_2_before_prefect_is_started(auto, asked, here, case):
    make, changed, said = BAD_INPUT[case]
    if make:
        make()
    code, output, errors = auto(**changed)
    assert (code, output) == (2, "")
    assert errors.startswith("narrowcast: ") and errors.endswith("\n") and errors.count("\n") == 1
    assert said in errors
    assert not (here / "out").exists()
    assert not asked


def test_a_model_without_a_layer_is_one_line_and_exit_code_2(auto, here):
    onnx.save(no_layer(), "n.onnx")
    np.savez("n.npz", x=np.zeros((3, 4), np.float32))
    code, _, errors = auto(model="n.onnx", calibration="n.npz", evaluation="n.npz")
    assert code == 2
    assert errors.startswith("narrowcast: n.onnx: has no layer to narrow: ") and errors.count("\n") == 1
    assert not (here / "out").exists()


METRICS = """
def raises(outputs, labels): return {}["no"]
def says(outputs, labels): return "good"
def nothing(outputs, labels): return float("nan")
"""


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("raises", "raised KeyError: 'no' (my_metrics.py, line 2)"),
        ("says", "returned 'good'; it must return a number"),
        ("nothing", "returned nan; it must return a finite number"),
    ],
)
def test_a_metric_that_fails_is_one_line_and_exit_code_2(auto, here, monkeypatch, function, said):
    Path("my_metrics.py").write_text(METRICS)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_metrics", raising=False)
    code, _, errors = auto(max_l2=None, max_metric_drop="0.1", metric=f"my_metrics:{function}")
    assert (code, errors) == (2, f"narrowcast: my_metrics:{function}: {said}\n")
    assert not (here / "out").exists()


# --- what else may happen ------------------------------------------------------------------------------------------


def test_a_memory_budget_that_is_no_size_is_one_line_and_exit_code_2(auto, here, monkeypatch):
    monkeypatch.setenv("NARROWCAST_MEMORY", "lots")
    code, _, errors = auto()
    assert (code, errors) == (2, "narrowcast: NARROWCAST_MEMORY is 'lots'; it must be a size, such as 2GiB or 500MB\n")


def test_a_target_met_is_exit_code_0_and_silent_on_standard_error(auto, here):
    code, output, errors = auto(wide="a16w16", max_l2="0.005", holdout="holdout.npz")
    assert (code, errors) == (0, "")
    assert "within the target of at most 0.005" in output
    assert {path.name for path in (here / "out").iterdir()} == {
        *(f"{table}.arrow" for table in ("layers", "calibration", "sensitivity", "search", "samples")),
        *("model.onnx", "manifest.json", "report.html"),
    }


def test_a_target_the_wide_model_misses_is_exit_code_3_and_says_by_how_much(auto, here):
    code, output, errors = auto(wide="a16w16", max_l2="1e-9", no_float_tensors="")
    manifest = json.loads((here / "out" / "manifest.json").read_text())
    score = manifest["scores"]["wide"]["l2"]
    assert code == 3
    assert "Target missed." in output
    assert errors == (
        f"narrowcast: even the wide model (a16w16) misses l2 <= 1e-09: it scores {score:.6g}, "
        f"off by {score - 1e-9:.6g}; the wide model is in out\n"
    )
    assert manifest["target"]["met"] is False
    assert (here / "out" / "model.onnx").exists()


def test_a_target_that_no_rung_meets_gives_out_the_nearest_model_and_calls_it_so(auto, here):
    code, _, errors = auto(wide="a16w8", max_l2="1e-9", no_float_tensors="")
    manifest = json.loads((here / "out" / "manifest.json").read_text())
    assert code == 3
    assert set(manifest["plan"].values()) == {"a16w16"}
    assert errors.startswith("narrowcast: even the model with its layers at a16w16, above a16w8, misses l2 <= 1e-09")
    assert errors.endswith("; the nearest model is in out\n")


def test_a_model_within_its_budget_is_exit_code_0(auto, here):
    code, output, errors = auto(wide="a16w16", max_l2=None, max_bops="0.5", metric="kl")
    assert (code, errors) == (0, "")
    assert "Within budget. " in output and "within the budget of 50.0%" in output
    assert json.loads((here / "out" / "manifest.json").read_text())["target"]["metric"] == "kl"


def test_a_budget_no_plan_is_within_is_exit_code_3_and_says_the_least_there_is(auto, here):
    code, output, errors = auto(wide="a16w16", max_l2=None, max_bops="0.2")
    assert code == 3
    assert "Over budget. All 4 layers, " in output and "above the budget of 20.0%" in output
    least = json.loads((here / "out" / "manifest.json").read_text())["costs"]["bops"]["mixed"]
    assert errors == (
        "narrowcast: no plan is within bops <= 0.2 of the wide model: the least that the model can cost at these "
        f"precisions is {least:.6g} bit operations, 0.25 of the wide model's; the nearest model is in out\n"
    )


def test_json_prints_the_manifest_and_nothing_else(auto, here, command):
    auto_flags = ["--calibration", "calibration.npz", "--evaluation", "evaluation.npz", "--out", "out"]
    code, output, errors = command("auto", MODEL, *auto_flags, "--max-l2", "1", "--json")
    assert (code, errors) == (0, "")
    assert json.loads(output) == json.loads((here / "out" / "manifest.json").read_text())


def raising(error):
    def raised(inputs, config):
        raise error

    return raised


STOPPED = "stopped; run the same command again to go on from here"
HIDDEN_STOP = ImportError("initialization failed")
HIDDEN_STOP.__cause__ = KeyboardInterrupt()


FAILURES = {
    "Ctrl-C": (KeyboardInterrupt(), 130, STOPPED),
    "Ctrl-C in pydantic": (SchemaError("Error building `model` serializer:\n  KeyboardInterrupt: "), 130, STOPPED),
    "Ctrl-C in an import": (HIDDEN_STOP, 130, STOPPED),
    "a full disk": (
        OSError(errno.ENOSPC, "No space left on device", "out/model.onnx"),
        1,
        "No space left on device: out/model.onnx; finished steps are kept",
    ),
    "an outage": (OutageError("s3://b: does not answer"), 1, "s3://b: does not answer; finished steps are kept"),
    "no memory": (MemoryError(), 1, "out of memory; finished steps are kept"),
    "a bug": (ZeroDivisionError("division\nby zero"), 1, "failed with ZeroDivisionError: division by zero ("),
}


@pytest.mark.parametrize("case", FAILURES)
def test_an_outage_or_a_bug_is_one_line(auto, monkeypatch, case):
    error, expected, said = FAILURES[case]
    monkeypatch.setattr(command_line.run, "_flow_call", raising(error))
    code, _, errors = auto()
    assert code == expected
    assert errors.strip().startswith("narrowcast: ") and errors.strip().count("\n") == 0
    assert said in errors


def test_a_bug_shows_its_traceback_to_who_asks_for_it(auto, monkeypatch):
    monkeypatch.setenv("NARROWCAST_TRACEBACK", "1")
    monkeypatch.setattr(command_line.run, "_flow_call", raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        auto()


def test_names_with_spaces_and_a_model_with_two_inputs(here, command):
    model = MODELS["several-inputs-and-outputs"]()
    onnx.save(model, "my model.onnx")
    np.savez("my data.npz", **samples(model, 8))
    flags = ["--calibration", "my data.npz", "--evaluation", "my data.npz", "--max-l2", "9", "--out", "my output"]
    code, output, errors = command("auto", "my model.onnx", *flags)
    assert (code, errors) == (0, "")
    assert "model and report are in my output" in output


# --- options -------------------------------------------------------------------------------------------------------


def test_the_option_file_is_read_and_the_command_line_wins(auto, asked):
    Path("c.yaml").write_text("narrow: [a16w4, a8w4]\nwide: a16w16\nsearch: linear\nbatch-size: 3\nworkers: 2\n")
    auto(config="c.yaml", search="bisect", workers="1")
    [(inputs, config)] = asked
    assert [str(precision) for precision in config.narrow] == ["a16w4", "a8w4"]
    assert (str(config.wide), config.batch_size) == ("a16w16", 3)
    assert (config.search, inputs["workers"]) == ("bisect", 1)


@pytest.mark.parametrize(
    "written", ["max_kl: 0.5", "max-metric-drop: 1\nmetric: m:f", "target: {metric: kl, limit: 1}"]
)
def test_a_target_on_the_command_line_replaces_the_one_in_the_file(auto, asked, written):
    Path("c.yaml").write_text(written)
    auto(config="c.yaml", max_l2="0.25")
    [(_, config)] = asked
    assert str(config.target) == "l2 <= 0.25"


def test_the_option_file_may_hold_everything(here, command, asked):
    lines = ["model: model.onnx", "calibration: calibration.npz", "evaluation: evaluation.npz", "out: out", "max_kl: 2"]
    Path("c.yaml").write_text("\n".join(lines))
    command("auto", "--config", "c.yaml")
    [(inputs, config)] = asked
    assert (inputs["model"], str(config.target)) == ("model.onnx", "kl <= 2")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["auto"], "narrowcast: missing MODEL, --calibration, --evaluation, --out; see narrowcast auto --help\n"),
        (["auto", "m.onnx", "--out", "o"], "narrowcast: missing --calibration, --evaluation; see narrowcast auto"),
        (["quantize"], "narrowcast: No such command 'quantize'"),
        ([], "Usage: narrowcast [OPTIONS] COMMAND [ARGS]..."),
    ],
)
def test_what_is_missing_is_said(command, arguments, said):
    code, _, errors = command(*arguments)
    assert code == 2
    assert errors.startswith(said)


@pytest.mark.parametrize("arguments", [["--help"], ["auto", "--help"], ["--version"]])
def test_help_comes_without_the_heavy_imports(arguments):
    script = (
        "import sys; from flows.command_line import main; code = 0\n"
        f"sys.argv = ['narrowcast', *{arguments}]\n"
        "try: main()\n"
        "except SystemExit as stop: code = stop.code\n"
        "heavy = {'prefect', 'onnx', 'onnxruntime', 'numpy', 'pyarrow', 'rich'} & sys.modules.keys()\n"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


FILES = "--calibration calibration.npz --evaluation evaluation.npz --out o --max-l2 1"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (f"auto no.onnx {FILES}", 2),
        (f"auto calibration.npz {FILES}", 2),
        (f"auto relu.onnx {FILES}", 2),
        (f"auto {MODEL} {FILES} --exclude no_such_node", 2),
        (f"auto {MODEL} {FILES.replace('evaluation.npz', 'no.npz')}", 2),
        (f"inspect {MODEL}", 0),
        (f"init {MODEL}", 0),
        ("runtimes", 0),
    ],
    ids=["no file", "no model", "no layer", "no such node", "no data", "inspect", "init", "runtimes"],
)
def test_neither_a_refusal_nor_a_look_at_a_model_imports_prefect(here, arguments, code):
    onnx.save(build("(float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Relu(x) }"), "relu.onnx")
    script = (
        "import sys; from flows.command_line import main; code = 0\n"
        f"sys.argv = ['narrowcast', *{arguments.split()}]\n"
        "try: main()\n"
        "except SystemExit as stop: code = stop.code\n"
        "print(code, 'prefect' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == f"{code} False"


# --- inspect -------------------------------------------------------------------------------------------------------


def test_inspect_lists_the_layers(here, command):
    code, output, errors = command("inspect", MODEL)
    assert (code, errors) == (0, "")
    assert "4 layers" in output and "4x3x3x3" in output


def test_inspect_as_json(here, command):
    code, output, _ = command("inspect", MODEL, "--json")
    assert code == 0
    assert [layer["layer"] for layer in json.loads(output)["layers"]] == ["c1", "c2", "c3", "fc"]


@pytest.mark.parametrize("case", ["no such model", "a model that is text", "a quantized model", "a folder as model"])
def test_inspect_refuses_what_is_no_float_model(here, command, case):
    make, changed, said = BAD_INPUT[case]
    if make:
        make()
    code, output, errors = command("inspect", changed["model"])
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert said in errors


# --- the page of options ------------------------------------------------------------------------------------------


def test_the_page_of_options_is_that_of_the_program():
    """Where it is not, make it again: python -m tests.docs.option_page > docs/options.md"""
    page = Path(__file__).parents[2] / "docs" / "options.md"
    assert page.read_text(encoding="utf-8") == option_page()
