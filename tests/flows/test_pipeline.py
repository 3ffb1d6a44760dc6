"""The flows' bodies are the pipeline, the same as without Prefect, and what they start is shown by its name."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.task_runners import ConcurrentTaskRunner, PrefectTaskRunner, ProcessPoolTaskRunner, ThreadPoolTaskRunner

import flows
from flows.auto_mixed_precision import auto_mixed_precision
from quant_core.config import config_from
from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.execution.runner import Runner
from quant_core.pipeline.auto import run_auto
from quant_core.pipeline.job import QuantizationJob
from tasks.prefect_runner import PrefectRunner

ROOT = Path(flows.__file__).parents[1]
PACKAGES = [ROOT / name for name in ("flows", "tasks", "quant_core")]
CONFIG = config_from(target={"metric": "l2", "limit": 0.005}, wide="a16w16", lift="none", per_channel=False)


def steps_called(file: str, function: str) -> list[str]:
    """The pipeline's steps in the order in which a function's body calls them."""
    tree = ast.parse((ROOT / file).read_text())
    body = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    steps = {a.name for node in imports if node.module == "quant_core.pipeline.steps" for a in node.names}
    calls = [node for node in ast.walk(body) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    # An argument is evaluated before the call that it is an argument of: the innermost one ends first.
    ordered = sorted(calls, key=lambda call: (call.lineno, -call.col_offset))
    return [call.func.id for call in ordered if call.func.id in steps]


@pytest.mark.parametrize("job", ["auto", "layer_wise"])
def test_the_same_steps_stand_in_the_flow_and_in_the_engine(job):
    function = {"auto": "auto_mixed_precision", "layer_wise": "layer_wise"}[job]
    in_flow = steps_called(f"flows/{function}.py", function)
    assert in_flow == steps_called(f"quant_core/pipeline/{job}.py", f"run_{job}")
    assert in_flow[0] == "prepare" and in_flow[-3:] == ["export", "verify", "report"]


def noted(runner_class, monkeypatch):
    """The stages that a runner is asked for, in order, and for which step."""
    asked, real = [], runner_class.fan_out

    def fan_out(self, stage, each, /, step="", title="", **common):
        asked.append((stage.name, step, title, len(each)))
        return real(self, stage, each, step=step, title=title, **common)

    monkeypatch.setattr(runner_class, "fan_out", fan_out)
    return asked


def test_both_call_the_same_stages_in_the_same_order(job, tmp_path, monkeypatch):
    in_flow, alone = noted(PrefectRunner, monkeypatch), noted(Runner, monkeypatch)
    places = {"output": str(tmp_path / "flow"), "workspace": str(tmp_path / "workspace")}
    auto_mixed_precision(**job, **places, config=CONFIG, workers=1)
    assert not alone  # PrefectRunner has a way of its own
    data = (job["calibration"], job["evaluation"], job["holdout"])
    made = QuantizationJob.of(job["model"], *data, CONFIG, tmp_path / "alone", tmp_path)
    run_auto(made, Runner(Machine(tmp_path, 1)))
    assert alone == in_flow
    names = list(dict.fromkeys(name for name, *_ in alone))
    assert names == ["prepare", "calibrate", "baseline", "evaluate", "probe", "rank", "export", "verify", "timing"]
    titles = list(dict.fromkeys(title for _, step, title, _ in alone if step == "search"))
    assert titles == [f"search round {number}" for number in range(1, len(titles) + 1)]


def test_task_runs_say_what_they_do(run):
    run()
    with get_client(sync_client=True) as client:
        newest = client.read_flow_runs(limit=1, sort="START_TIME_DESC")[0]
        runs = client.read_task_runs(limit=200)
    names = [one.name for one in runs if one.flow_run_id == newest.id]
    for begin in (
        "prepare model.onnx",
        "calibrate on",
        "baseline",
        "probe",
        "rank ",
        "search round 1 · ",
        "export",
        "verify the written file on",
    ):
        assert any(name.startswith(begin) for name in names), begin


def own_frames() -> list[str]:
    """Functions of ours on the stack, the outermost first."""
    frame, found = sys._getframe(1), []
    while frame:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if any(Path(file).is_relative_to(package) for package in PACKAGES) and not name.startswith("<"):
            found.append(name)  # a comprehension is part of its function
        frame = frame.f_back
    return found[::-1]


def test_few_frames_of_ours_lie_between_the_command_and_a_probe(command, job, tmp_path, monkeypatch):
    stacks, real = [], ThreadPoolTaskRunner.submit

    def submit(self, task, *given, **options):
        if task.name == "probe":
            stacks.append(own_frames())
        return real(self, task, *given, **options)

    monkeypatch.setattr(ThreadPoolTaskRunner, "submit", submit)
    data = [part for name in ("calibration", "evaluation") for part in (f"--{name}", job[name])]
    code, _, _ = command(
        "auto",
        job["model"],
        *data,
        "--wide",
        "a16w16",
        "--no-per-channel",
        "--max-l2",
        "0.005",
        "--out",
        str(tmp_path / "out"),
        "--workspace",
        str(tmp_path / "workspace"),
        "--json",
    )
    assert code == 0
    between = [stack[stack.index("auto") + 1 :] for stack in stacks]
    assert between and max(map(len, between)) <= 6, max(between, key=len)


def test_a_task_runner_of_prefects_own_knob_runs_the_probes(job, tmp_path):
    submitted, real = [], ThreadPoolTaskRunner.submit

    class Given(ThreadPoolTaskRunner):
        def submit(self, task, *given, **options):
            submitted.append(task.name)
            return real(self, task, *given, **options)

    places = {"output": str(tmp_path / "out"), "workspace": str(tmp_path / "workspace")}
    auto_mixed_precision.with_options(task_runner=Given(max_workers=2))(**job, **places, config=CONFIG, workers=1)
    assert "probe" in submitted


def test_processes_given_by_prefects_own_knob_write_what_threads_do(job, finished, tmp_path):
    places = {"output": str(tmp_path / "other"), "workspace": str(tmp_path / "elsewhere")}
    given = auto_mixed_precision.with_options(task_runner=ProcessPoolTaskRunner(max_workers=2))
    given(**job, **places, config=CONFIG, workers=1)
    assert (tmp_path / "other" / "model.onnx").read_bytes() == finished


@pytest.mark.parametrize(
    ("runner", "chosen", "said"),
    [
        (ConcurrentTaskRunner(max_workers=2), {"runner": "process"}, "was given the task runner ThreadPoolTaskRunner"),
        (PrefectTaskRunner(), {}, "PrefectTaskRunner needs task workers"),
    ],
    ids=["two at once", "one that needs task workers"],
)
def test_a_task_runner_that_cannot_be_used_is_refused_in_words(job, tmp_path, runner, chosen, said):
    places = {"output": str(tmp_path / "out"), "workspace": str(tmp_path / "workspace")}
    with pytest.raises(InputError, match=said):
        auto_mixed_precision.with_options(task_runner=runner)(**job, **places, **chosen, config=CONFIG, workers=1)
