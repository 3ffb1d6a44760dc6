"""The whole pipeline on a tiny model, without Prefect."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest

from quant_core import InputError, MixedPrecisionConfig, PrecisionPlan, Target, TargetError, auto_mixed_precision
from quant_core.config import config_from
from quant_core.execution.progress import Watcher, watched_by
from quant_core.execution.runner import Runner
from quant_core.pipeline.candidates import probe_rounds
from quant_core.pipeline.plans.plan_evaluator import PlanEvaluator
from quant_core.scoring import sampling
from quant_core.storage.tables import from_ipc
from tests.models import MODELS, samples
from tests.quant_core.workbench import distance, saved
from tests.watching import Said


def config(limit: float | None = 0.05, metric: str = "l2", **options: object) -> MixedPrecisionConfig:
    usual = {"wide": "a16w16", "per_channel": False}
    return config_from(target={"metric": metric, "limit": limit}, **usual | options)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """The model's file, and data to calibrate, evaluate and hold out."""
    folder = tmp_path_factory.mktemp("chain")
    model = MODELS["chain"]()
    calibration = samples(model, 12, 1)
    # Evaluated on samples that calibration saw, so that clipping does not hide what the types do.
    evaluation = {name: array[:8] for name, array in calibration.items()}
    return saved(model, folder), [calibration, evaluation, samples(model, 5, 3)]


def run(chain, tmp_path, settings=None, name="out", **options):
    path, (calibration, evaluation, holdout) = chain
    given = {"calibration": calibration, "evaluation": evaluation, "holdout": holdout} | options
    return auto_mixed_precision(path, config=settings or config(), output=tmp_path / name, workers=1, **given)


def test_the_shipped_file_meets_the_target_when_run_by_anyone(chain, tmp_path):
    outcome = run(chain, tmp_path)
    assert outcome.met
    feeds = chain[1][1]
    before, after = (
        ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
        for path in (chain[0], outcome.model)
    )
    l2 = np.linalg.norm((after - before).reshape(len(before), -1), axis=1).mean()
    assert l2 <= 0.05
    assert l2 == pytest.approx(outcome.manifest.scores.mixed["l2"], rel=0.05)


def test_the_next_run_may_compute_before_the_output_is_written(chain, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(Runner, "finish", lambda self: written.append((tmp_path / "out" / "manifest.json").exists()))
    run(chain, tmp_path)
    assert written == [False]


def test_the_output_folder_is_complete(chain, tmp_path):
    outcome = run(chain, tmp_path)
    names = {path.name for path in outcome.folder.iterdir()}
    assert {"model.onnx", "manifest.json", "layers.arrow", "calibration.arrow", "sensitivity.arrow"} <= names
    assert {"search.arrow", "report.html"} <= names
    manifest = json.loads((outcome.folder / "manifest.json").read_text())
    assert manifest["plan"] == outcome.plan.as_dict()
    assert list(manifest["plan"]) == ["c1", "c2", "c3", "fc"]
    assert manifest["output"]["bytes"] == outcome.model.stat().st_size
    assert set(manifest["scores"]) == {"float", "wide", "mixed", "holdout"}
    assert manifest["scores"]["holdout"]["l2"] > 0


@pytest.mark.parametrize("search", ["linear", "bisect", "greedy", "knapsack"])
@pytest.mark.parametrize(("limit", "count"), [(0.0005, 0), (0.002, 1), (0.005, 3), (0.05, 4)])
def test_more_is_narrowed_for_a_looser_target(chain, tmp_path, search, limit, count):
    outcome = run(chain, tmp_path, config(limit, search=search))
    assert outcome.met
    assert outcome.manifest.narrowed.layers == count
    assert outcome.manifest.scores.mixed["l2"] <= limit


@pytest.mark.parametrize(("share", "some"), [(0.0, {"a8w8t"}), (1.0, set())], ids=["worth it", "not worth it"])
def test_one_scale_a_weight_is_probed_where_that_saves_some_of_the_file(chain, tmp_path, monkeypatch, share, some):
    monkeypatch.setattr(probe_rounds, "_LEAST_SAVING", share)
    outcome = run(chain, tmp_path, config(0.005, cost="bytes", per_channel=True))
    assert set(outcome.tables()["sensitivity"].column("precision").to_pylist()) == {"a8w8"} | some
    assert outcome.met


def test_where_the_file_with_all_layers_narrow_misses_after_all_single_layers_are_tried(chain, tmp_path, monkeypatch):
    exact = PlanEvaluator.evaluate

    def hopeful(evaluator, plan):
        trial = exact(evaluator, plan)
        if not evaluator.study.in_runtime and len(evaluator.study.trials) > 1:
            trial = replace(trial, met=True)
            evaluator.study.add_or_replace(trial)
        return trial

    monkeypatch.setattr(PlanEvaluator, "evaluate", hopeful)
    outcome = run(chain, tmp_path, config(0.005))
    assert (outcome.met, outcome.manifest.narrowed.layers) == (True, 3)


def test_a_target_the_wide_model_misses_is_an_error_that_says_by_how_much(chain, tmp_path):
    with pytest.raises(
        TargetError, match=r"even the wide model \(a16w16\) misses l2 <= 0: it scores .*, off by "
    ) as caught:
        run(chain, tmp_path, config(0.0, lift="none", float_tensors=False))
    outcome = caught.value.outcome
    assert not outcome.met
    assert set(outcome.plan.as_dict().values()) == {"a16w16"}
    assert outcome.model.exists()  # the best there is is written all the same


class Reader:
    """Batches one by one, as onnxruntime.quantization.CalibrationDataReader hands them out."""

    def __init__(self, feeds, size=2):
        count = len(next(iter(feeds.values())))
        self.batches = iter(
            {name: array[start : start + size] for name, array in feeds.items()} for start in range(0, count, size)
        )

    def get_next(self):
        return next(self.batches, None)


def test_data_may_come_as_arrays_files_or_readers(chain, tmp_path):
    feeds = chain[1]
    files = []
    for number, part in enumerate(feeds):
        files.append(tmp_path / f"{number}.npz")
        np.savez(files[-1], **part)
    kinds = {
        "arrays": feeds,
        "files": files,
        "texts": [str(path) for path in files],
        "readers": [Reader(part) for part in feeds],
    }
    made = {
        name: run(chain, tmp_path, name=name, calibration=given[0], evaluation=given[1], holdout=given[2])
        for name, given in kinds.items()
    }
    models = {outcome.model.read_bytes() for outcome in made.values()}
    assert len(models) == 1
    assert len({json.dumps(outcome.manifest.scores.model_dump()) for outcome in made.values()}) == 1


def test_a_reader_that_is_used_up_is_refused(chain, tmp_path):
    reader = Reader(chain[1][0])
    while reader.get_next() is not None:
        pass
    with pytest.raises(InputError, match="handed out no batch"):
        run(chain, tmp_path, calibration=reader)


def test_threads_change_nothing(chain, tmp_path):
    path, (calibration, evaluation, _) = chain
    found = [
        auto_mixed_precision(
            path,
            calibration=calibration,
            evaluation=evaluation,
            config=config(0.002, batch_size=2),
            output=tmp_path / str(workers),
            workers=workers,
        )
        for workers in (1, 3)
    ]
    assert found[0].model.read_bytes() == found[1].model.read_bytes()
    assert found[0].plan == found[1].plan
    for name in ("calibration.arrow", "search.arrow"):
        assert (found[0].folder / name).read_bytes() == (found[1].folder / name).read_bytes()


def test_a_run_with_little_memory_says_that_its_batches_may_be_smaller(chain, tmp_path, monkeypatch):
    class Heard(Watcher):
        def __init__(self):
            self.warnings = []

        def warned(self, message):
            self.warnings.append(message)

    quiet, told = Heard(), Heard()
    with watched_by(quiet):
        plenty = run(chain, tmp_path)
    monkeypatch.setenv("NARROWCAST_MEMORY", "1MiB")
    with watched_by(told):
        little = run(chain, tmp_path, name="little")
    assert not quiet.warnings and len(told.warnings) == 1 and "batches may be smaller" in told.warnings[0]
    assert little.plan == plenty.plan


def test_a_plan_scored_in_shards_scores_the_same(chain, tmp_path, monkeypatch):
    whole = run(chain, tmp_path, config(samples="all"))
    monkeypatch.setattr(sampling, "SAMPLES_A_SHARD", 3)
    parts = run(chain, tmp_path, config(samples="all"), name="parts")
    assert parts.table("search") == whole.table("search") and parts.plan == whole.plan


def test_the_ladder_may_have_several_steps(chain, tmp_path):
    outcome = run(chain, tmp_path, config(0.05, wide="a16w16", narrow=["a16w8", "a8w8"]))
    assert isinstance(outcome.plan, PrecisionPlan)
    assert set(outcome.plan.as_dict().values()) == {"a8w8"}


@pytest.mark.parametrize(
    ("metric", "limit"), [("sqnr_db", 20), ("kl", 0.01), ("cosine", 0.01)], ids=["sqnr", "kl", "cosine"]
)
def test_other_metrics(chain, tmp_path, metric, limit):
    outcome = run(chain, tmp_path, config(limit, metric))
    assert outcome.met
    assert Target(metric=metric, limit=limit).met_by(outcome.manifest.scores.mixed[metric])


def test_top1_needs_labels(chain, tmp_path):
    with pytest.raises(InputError, match="has no array 'labels'"):
        run(chain, tmp_path, config(0.1, "top1_drop"))


def test_top1_with_labels(chain, tmp_path):
    path, feeds = chain
    labels = [{**part, "labels": np.zeros(len(part["x"]), np.int64)} for part in feeds]
    outcome = run(chain, tmp_path, config(1.0, "top1_drop"), evaluation=labels[1], holdout=labels[2])
    assert outcome.met
    assert 0 <= outcome.manifest.scores.float["top1"] <= 1


def test_unusable_data_is_refused_before_any_work(chain, tmp_path):
    with pytest.raises(InputError, match="has no array 'x'"):
        run(chain, tmp_path, evaluation={"z": np.zeros((2, 3), np.float32)})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["transformer", "several-inputs-and-outputs", "fixed-batch", "resize-10", "infinite-mask"]
)
def test_models_of_all_kinds_go_through(tmp_path, name):
    model = MODELS[name]()
    calibration, evaluation = samples(model, 6, 1), samples(model, 5, 2)
    outcome = auto_mixed_precision(
        saved(model, tmp_path),
        calibration=calibration,
        evaluation=evaluation,
        config=config(5.0, output="all"),
        output=tmp_path / "out",
    )
    assert outcome.met
    batch = {key: array[:1] for key, array in evaluation.items()}
    found = [
        dict(zip([value.name for value in model.graph.output], session.run(None, batch), strict=True))
        for session in (
            ort.InferenceSession(path, providers=["CPUExecutionProvider"])
            for path in (tmp_path / "float.onnx", outcome.model)
        )
    ]
    assert distance(found[1], found[0]) < 1


def test_the_engine_knows_nothing_of_prefect():
    # A fresh interpreter: other tests of this session may well have imported it.
    import subprocess

    code = "import sys, quant_core; sys.exit('prefect' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_cost_that_is_to_be_saved_is_totalled(chain, tmp_path):
    outcome = run(chain, tmp_path, config(0.002, cost="activation-bytes"))
    costs = outcome.manifest.costs
    assert costs.objective == "activation-bytes"
    assert costs.of("bops").saved == pytest.approx(1 - outcome.manifest.narrowed.bops_ratio)
    search = from_ipc((outcome.folder / "search.arrow").read_bytes()).to_pylist()
    chosen = next(row for row in search if row["precisions"] == json.dumps(outcome.plan.as_dict()))
    assert chosen["cost"] == costs.of("activation-bytes").mixed < search[0]["cost"]


class Listener(Watcher):
    def __init__(self):
        self.notes = []

    def noted(self, message):
        self.notes.append(message)


@pytest.mark.parametrize(
    ("narrow", "notes", "evaluations"),
    [
        pytest.param(["a8w8"], ["all layers, at a8w8, meet", "no narrower one"], 2, id="one rung"),
        pytest.param(
            ["a16w8", "a8w8"], ["all layers, at a16w8, meet", "on to a8w8", "all layers, at a8w8"], 3, id="two"
        ),
    ],
)
def test_where_everything_may_be_narrow_at_once_it_is_said_and_the_ladder_gone_down(
    chain, tmp_path, narrow, notes, evaluations
):
    listener = Listener()
    with watched_by(listener):
        outcome = run(chain, tmp_path, config(0.05, narrow=narrow))
    assert all(note in " ".join(listener.notes) for note in notes)
    assert (outcome.manifest.work.probes, outcome.manifest.work.evaluations) == (0, evaluations)


def test_a_ladder_mixes_its_last_rungs_where_the_first_is_harmless(chain, tmp_path):
    outcome = run(
        chain, tmp_path, config(0.02, wide="a16w16", narrow=["a16w8", "a8w8", "a8w4"], round_weights="nearest")
    )
    assert outcome.met
    assert set(outcome.plan.as_dict().values()) <= {"a16w8", "a8w8", "a8w4"}
    assert "a8w8" in outcome.plan.as_dict().values()


@pytest.mark.parametrize("search", ["linear", "greedy"])
def test_with_a_confidence_the_bound_must_meet_the_target(chain, tmp_path, search):
    easy = run(chain, tmp_path, config(0.005, search=search), name="easy")
    limit = easy.manifest.scores.mixed["l2"] * 1.001
    target = {"metric": "l2", "limit": limit, "confidence": 0.95}
    sure = run(chain, tmp_path, config_from(target=target, wide="a16w16", search=search))
    found = sure.manifest.target
    assert found.confidence == 0.95 and found.looks == sure.manifest.work.evaluations
    assert sure.manifest.scores.mixed["l2"] < found.bound <= limit
    assert sure.manifest.narrowed.layers < easy.manifest.narrowed.layers
    assert easy.manifest.target.model_dump() == {
        "metric": "l2",
        "limit": 0.005,
        "function": None,
        "met": True,
        "confidence": None,
    }
    assert found.undecided.samples > 8  # as many as there are
    assert found.holdout.bound > sure.manifest.scores.holdout["l2"]
    rows = from_ipc((sure.folder / "search.arrow").read_bytes()).to_pylist()
    assert all(row["score"] < row["bound"] and row["accepted"] == (row["bound"] <= limit) for row in rows)


def test_a_wide_model_that_is_not_sure_to_meet_the_target_is_an_error_that_says_what_would_settle_it(chain, tmp_path):
    score = run(chain, tmp_path).manifest.scores.wide["l2"]
    target = {"metric": "l2", "limit": score * 1.001, "confidence": 0.95}
    with pytest.raises(
        TargetError, match=r"does not surely meet .* on other samples; about [\d,]+ evaluation samples would"
    ):
        run(chain, tmp_path, config_from(target=target, wide="a16w16", lift="none", per_channel=False), name="unsure")


def test_the_fastest_plan_by_a_devices_times_is_found_and_models_are_timed(chain, tmp_path):
    names = ["c1", "c2", "c3", "fc"]
    rows = [
        f"{name},{precision},{time}"
        for at, name in enumerate(names)
        for precision, time in (("float32", 2), ("au8w8", 3 if at == 0 else 1))
    ]
    (tmp_path / "device.csv").write_text("\n".join(["layer,precision,milliseconds", *rows]))
    wanted = config(100.0, wide="float32", cost="latency", device_costs=str(tmp_path / "device.csv"))
    outcome = run(chain, tmp_path, wanted)
    assert outcome.plan.as_dict() == {name: "float32" if at == 0 else "au8w8" for at, name in enumerate(names)}
    assert outcome.manifest.costs.of("latency").wide == 2 * len(names)
    assert outcome.manifest.costs.of("latency").mixed == len(names) + 1
    prices = {(row["layer"], row["precision"]): row["milliseconds"] for row in outcome.table("latency").to_pylist()}
    assert prices.keys() == {(name, precision) for name in names for precision in ("float32", "au8w8")}
    assert "Time, layer by layer" in outcome.report.read_text()
    assert min(outcome.manifest.latency.float, outcome.manifest.latency.wide, outcome.manifest.latency.mixed) > 0
    assert "times" in (outcome.folder / "report.html").read_text()


def test_layers_are_timed_here_without_a_devices_times(chain, tmp_path):
    outcome = run(chain, tmp_path, config(100.0, wide="float32", cost="latency"))
    assert outcome.manifest.costs.objective == "latency"
    assert outcome.manifest.costs.of("latency").wide > 0
    assert outcome.manifest.seconds["latency"] > 0


def test_models_are_timed_only_when_asked(chain, tmp_path):
    assert run(chain, tmp_path, config(100.0)).manifest.latency is None
    assert run(chain, tmp_path, config(100.0, time_models=True)).manifest.latency.speedup > 0


def test_a_devices_times_that_do_not_fit_are_refused_before_any_work(chain, tmp_path):
    (tmp_path / "device.csv").write_text("layer,precision,milliseconds\nnobody,float32,1\n")
    with pytest.raises(InputError, match="'nobody' is not a layer of the model"):
        run(chain, tmp_path, config(100.0, cost="latency", device_costs=str(tmp_path / "device.csv")))
    lift = {"lift": ["float32"], "cost": "latency", "device_costs": str(tmp_path / "whole.csv")}
    rows = [f"{name},{one},1" for name in ("c1", "c2", "c3", "fc") for one in ("a16w16", "a8w8")]
    (tmp_path / "whole.csv").write_text("\n".join(["layer,precision,milliseconds", *rows]))
    with pytest.raises(InputError, match="has no row for layer 'c1' at float32, and 3 more rows are missing"):
        run(chain, tmp_path, config(100.0, **lift))
    with pytest.raises(InputError, match="device_costs are for the cost 'latency'"):
        config(100.0, device_costs="device.csv")


def test_the_documented_ranking_is_by_the_distance_to_the_float_model(chain, tmp_path):
    """Each row's loss is what the L2 target would measure of that narrowing."""
    outcome = run(chain, tmp_path, config(0.002, search="linear", rank="l2-float", samples="all"))
    rows = outcome.table("sensitivity").to_pylist()
    first = outcome.table("search").to_pylist()[1]
    assert [row["loss"] for row in rows] == sorted(row["loss"] for row in rows)
    assert json.loads(first["precisions"])[rows[0]["layer"]] == "a8w8"
    assert first["score"] == pytest.approx(rows[0]["loss"], rel=0.02)
    assert all(row["loss"] > outcome.manifest.scores.wide["l2"] * 0.5 for row in rows)


@pytest.mark.parametrize("rank", ["kl", "l2-float"])
def test_the_search_goes_on_by_any_ranking(chain, tmp_path, rank):
    outcome = run(chain, tmp_path, config(0.005, rank=rank))
    assert outcome.met and outcome.manifest.narrowed.layers == 3


@pytest.mark.parametrize("search", ["greedy", "bisect", "linear", "knapsack"])
def test_layers_kept_wide_are_neither_probed_nor_narrowed(chain, tmp_path, search):
    outcome = run(chain, tmp_path, config(9.0, search=search, keep_wide=["c*"], samples="all"))
    assert {name for name, precision in outcome.plan.layers if str(precision) == "a8w8"} == {"fc"}
    assert outcome.manifest.narrowed.of == 4
    assert set(outcome.table("sensitivity").column("layer").to_pylist()) <= {"fc"}


def test_a_frontier_leaves_layers_wide_that_are_kept_so(chain, tmp_path):
    outcome = run(chain, tmp_path, config(9.0, frontier=True, keep_wide=["c1"]))
    plans = [json.loads(text) for text in outcome.table("search").column("precisions").to_pylist()]
    assert {plan["c1"] for plan in plans} == {"a16w16"}
    assert len(plans) > 4


def test_with_all_layers_kept_the_wide_model_is_shipped_and_a_rule_without_layers_is_named(chain, tmp_path):
    listener = Listener()
    with watched_by(listener):
        outcome = run(chain, tmp_path, config(9.0, keep_wide=["*", "op:GlobalAveragePool"]))
    assert outcome.manifest.narrowed.layers == 0
    assert any(note.startswith("keep_wide: 'op:GlobalAveragePool' changes nothing") for note in listener.notes)


def test_a_layer_to_keep_that_is_not_there_is_an_error(chain, tmp_path):
    with pytest.raises(InputError, match=r"keep_wide: no layer has the name 'fcc'; did you mean 'fc'\?"):
        run(chain, tmp_path, config(keep_wide=["fcc"]))


@pytest.mark.parametrize("search", ["bisect", "linear"])
def test_so_many_layers_are_narrowed_the_first_of_the_ranking(chain, tmp_path, search):
    outcome = run(chain, tmp_path, config(None, search=search, most_layers=2, samples="all"))
    ranked = outcome.table("sensitivity").column("layer").to_pylist()
    assert {name for name, precision in outcome.plan.layers if str(precision) == "a8w8"} == set(ranked[:2])
    assert outcome.manifest.target.limit is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"most_layers": 2}, "most_layers: goes with search='linear' or 'bisect'"),
        ({"most_layers": 2, "search": "bisect", "max_bops": 0.5}, "most_layers: a budget says how many"),
    ],
)
def test_a_number_of_layers_goes_with_the_ranking_alone(options, said):
    with pytest.raises(InputError, match=said):
        config(**options)


def test_precisions_that_are_not_improved_are_told(chain, tmp_path):
    with watched_by(log := Said()):
        made = run(chain, tmp_path, config(1.0, wide="float32", narrow=["au8w8"], improve="auto"))
    assert made.manifest.improvements == ()
    assert any(note.startswith("improve leaves au8w8 alone") for note in log.notes)


def test_what_makes_layers_better_is_kept_and_told(chain, tmp_path):
    many = samples(MODELS["chain"](), 48, 1)
    plain, better = (
        run(
            chain,
            tmp_path,
            config(None, narrow=["a8w4"], max_bops=0.13, round_weights="gptq", improve=how),
            name=how,
            calibration=many,
        )
        for how in ("none", "auto")
    )
    assert plain.manifest.improvements == ()
    assert {one.precision for one in better.manifest.improvements} == {"a8w4"}
    found = next(one for one in better.manifest.improvements if one.method == "reconstruction")
    points = next(one for one in better.manifest.improvements if one.method == "zero points")
    assert better.manifest.config["symmetric"] is (False if points.kept else None)
    assert plain.manifest.config["symmetric"] is None
    assert found.kept and found.after < found.before and 0 < found.layers <= found.of and found.samples == 12
    assert better.manifest.scores.mixed["l2"] < plain.manifest.scores.mixed["l2"]
    page = (tmp_path / "auto" / "report.html").read_text()
    assert f"Weights reconstructed in {found.layers} of {found.of} layers, all at a8w4: L2 " in page
    rounded = {one.layer: one.rounding for one in plain.manifest.weights}
    assert (
        set(rounded.values()) == {"second order"}
        and "weight: second-order rounding, error " in (tmp_path / "none" / "report.html").read_text()
    ), "of layers that are better for it"
    rebuilt = [one for one in better.manifest.weights if one.rounding == "reconstruction"]
    assert len(rebuilt) == found.layers and all(0 <= one.error < 1 for one in rebuilt)
    assert page.count("weight: reconstructed, error ") == found.layers
