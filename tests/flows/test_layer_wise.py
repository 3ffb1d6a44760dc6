"""Layer-wise mixed precision as a flow and as a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.layer_wise import layer_wise
from quant_core.errors import InputError


@pytest.fixture
def by_hand(job, tmp_path):
    """Runs the flow in the test's own workspace; the manifest."""

    def ran(tensors, out="by-hand", **options):
        given = {"model": job["model"], "calibration": job["calibration"], "evaluation": job["evaluation"]} | options
        folders = {"output": str(tmp_path / out), "workspace": str(tmp_path / "workspace")}
        return layer_wise(tensors=tensors, workers=1, **folders, **given)

    return ran


def test_a_manifest_of_auto_gives_the_same_file_and_finds_its_steps(run, by_hand, tmp_path):
    first = run()
    assert 0 < first["narrowed"]["layers"] < first["narrowed"]["of"]
    second = by_hand(str(tmp_path / "out" / "manifest.json"))
    assert (tmp_path / "by-hand" / "model.onnx").read_bytes() == (tmp_path / "out" / "model.onnx").read_bytes()
    assert second["work"]["computed_steps"] == 0
    assert second["scores"]["mixed"] == first["scores"]["mixed"]


def test_an_edited_plan_computes_what_it_must(by_hand):
    by_hand({"a8w8": ["c1"]})
    again = by_hand({"a8w8": ["c1"], "int8": ["tensor:e"]})
    assert again["plan"] == {"c1": "a8w8", "c2": "a16w8", "c3": "a16w8", "fc": "a8w8"}
    assert again["tensors"] == {"e": "int8"}
    assert again["work"]["computed_steps"] == 4  # export, verify as deployed and by the reference, and timing


@pytest.fixture
def layer_wise_command(command, job, tmp_path, monkeypatch):
    """Runs `narrowcast layer-wise` on the job: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NARROWCAST_WORKSPACE", str(tmp_path / "workspace"))
    return lambda *arguments: command("layer-wise", job["model"], "--calibration", job["calibration"], *arguments)


def test_the_command(layer_wise_command, job):
    Path("types.yaml").write_text("int8: ['c?']\nint16: [x]\n")
    code, out, _ = layer_wise_command("--tensors", "types.yaml", "--evaluation", job["evaluation"], "--out", "out")
    assert code == 0
    assert "Quantized. 3 of 4 layers, " in out
    assert json.loads(Path("out/manifest.json").read_text())["tensors"] == {"x": "int16"}
    page = Path("out/report.html").read_text()
    assert "--tensors out/manifest.json" in page


def test_a_target_that_is_missed_is_exit_code_3(layer_wise_command, job):
    Path("types.yaml").write_text("int8: ['*']\n")
    options = ["--tensors", "types.yaml", "--evaluation", job["evaluation"], "--out", "out"]
    assert layer_wise_command(*options, "--max-l2", "1e-9")[0] == 3
    code, out, _ = layer_wise_command(*options, "--max-l2", "1", "--json")
    assert (code, json.loads(out)["target"]["met"]) == (0, True)


def test_a_dry_run_tells_what_is_to_do_and_does_nothing(layer_wise_command, job, tmp_path):
    Path("types.yaml").write_text("int8: ['c?']\n")
    options = ["--tensors", "types.yaml", "--evaluation", job["evaluation"], "--out", "out"]
    code, out, err = layer_wise_command(*options, "--dry-run", "--json")
    assert not err, err
    found = json.loads(out)
    assert (code, found["stage"]) == (0, "prepare")
    assert [stage["stage"] for stage in found["ahead"]] == ["prepare", "calibrate", "baseline", "export", "verify"]
    assert not Path("out").exists() and not list((tmp_path / "workspace").glob("results/*"))
    assert layer_wise_command(*options)[0] == 0
    assert "to do: nothing" in layer_wise_command(*options, "--dry-run")[1]
    Path("types.yaml").write_text("a8w4: [c1]\n")
    Path("timed.yaml").write_text("time_models: true\n")
    out = layer_wise_command(*options, "--config", "timed.yaml", "--dry-run")[1]
    assert "first to be computed: round, 1 step" in out and "timing" in out


BAD_INPUT = {
    "no plan": ([], "missing --tensors"),
    "a plan that is not there": (["--tensors", "no.yaml"], "no.yaml: cannot be read"),
    "a name that is not there": (
        ["--tensors", "nose.yaml"],
        "'nose' is neither a layer nor a tensor of the prepared model",
    ),
    "a type that is none": (["--tensors", "int7.yaml"], "int7.yaml: 'int7' is neither a type"),
    "a confidence alone": (["--tensors", "good.yaml", "--confidence", "0.9"], "needs a target to meet"),
    "a name that is not there, dry": (
        ["--tensors", "nose.yaml", "--dry-run"],
        "'nose' is neither a layer nor a tensor",
    ),
    "a search": (["--tensors", "good.yaml", "--config", "search.yaml"], "search.yaml:1: search: is not an option"),
    "no such precision": (["--tensors", "good.yaml", "--wide", "a7w7"], "wide: precision 'a7w7' is not known"),
}


@pytest.mark.parametrize(("options", "message"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input(layer_wise_command, options, message):
    for name, text in {"nose": "int8: [nose]", "int7": "int7: [c1]", "good": "int8: [c1]"}.items():
        Path(f"{name}.yaml").write_text(text)
    Path("search.yaml").write_text("search: bisect\n")
    code, out, errors = layer_wise_command(*options, "--out", "out")
    assert code == 2
    assert message in errors
    assert len(errors.strip().splitlines()) == 1
    assert not Path("out/model.onnx").exists()


def test_a_flow_with_a_wrong_name(by_hand, tmp_path):
    with pytest.raises(InputError, match="'nose' is neither a layer"):
        by_hand({"int8": ["nose"]})
