"""Pictures and random samples made to the measure of a model, and the mark that random data leave."""

import json

import numpy as np
import onnx
import pytest

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.errors import InputError, TargetError
from quant_core.execution.progress import watched_by
from quant_core.model.model_file import refer_model
from quant_core.pipeline.given_data import check_used, data_form
from quant_core.pipeline.job import QuantizationJob
from quant_core.report.sentences.summary import summary
from quant_core.storage.data import open_columns, refer_data
from quant_core.storage.data_forms import RandomInput
from tests.models import build, chain
from tests.quant_core.workbench import saved
from tests.watching import Said

EMBEDDING = build(
    """(int64[N,S] ids, int64[N,S] mask) => (float[N,S,4] y) {
        e = Gather(table, ids)  m = Cast<to=1>(mask)  u = Unsqueeze(m, last)  k = Mul(e, u)  y = MatMul(k, w)
    }""",
    {"table": (50, 4), "w": (4, 4), "last": np.int64([2])},
)


def form_of(model, source, tmp_path, **options):
    config = config_from(target={"metric": "l2", "limit": 9.0}, **options)
    return data_form(refer_model(saved(model, tmp_path)), source, config, 0, tmp_path)


def pictures(folder, count=3, size=8):
    Image = pytest.importorskip("PIL.Image")
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
        (folder / str(number % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / str(number % 2) / f"{number}.png")
    return str(folder)


def one_input(shape, kind="float"):
    return build(f"({kind}[{shape}] x) => ({kind}[{shape}] y) {{ y = Identity(x) }}")


@pytest.mark.parametrize(
    ("shape", "kind", "options", "expected"),
    [
        ("N,3,8,9", "float", {}, ("float32", 3, False, 8, 9)),
        ("N,8,9,3", "float", {}, ("float32", 3, True, 8, 9)),
        ("1,H,W,1", "uint8", {"image_size": 12}, ("uint8", 1, True, 12, 12)),
        ("N,1,H,W", "float16", {"image_size": "12x10"}, ("float16", 1, False, 12, 10)),
        ("N,3,8,W", "float", {"image_size": "8x10"}, ("float32", 3, False, 8, 10)),
    ],
)
def test_layout_type_and_size_are_those_of_the_input(shape, kind, options, expected, tmp_path):
    form = form_of(one_input(shape, kind), pictures(tmp_path / "data"), tmp_path, **options)
    assert (form.type, form.channels, form.channels_last, form.height, form.width) == expected


@pytest.mark.parametrize(
    ("model", "options", "line"),
    [
        (one_input("N,3,H,W"), {}, "input x takes pictures of any size; give one with --image-size"),
        (one_input("N,3,8,8"), {"image_size": 9}, "image_size: is 9x9, and input x of"),
        (one_input("N,7,8,8"), {}, "input x has shape [any, 7, 8, 8], not that of pictures"),
        (one_input("N,8"), {}, "input x has shape [any, 8], not that of pictures"),
        (one_input("N,3,8,8", "int64"), {}, "input x cannot take pictures: its type is int64"),
        (one_input("N,3,8,8", "uint8"), {"mean": [0.5]}, "mean, std: input x takes the pixels as they are"),
        (one_input("N,3,8,8"), {"std": [1, 2]}, "std: has 2 numbers, and the model's pictures have 3 channels"),
        (EMBEDDING, {}, "has 2 inputs (ids, mask), and pictures are for one"),
    ],
)
def test_what_takes_no_pictures_is_refused_in_one_line(model, options, line, tmp_path):
    with pytest.raises(InputError) as caught:
        form_of(model, pictures(tmp_path / "data"), tmp_path, **options)
    assert line in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"image_size": 8}, {"std": [0.5]}, {"random_samples": 4}, {"random_sizes": ["S=4"]}]
)
def test_an_option_that_no_data_are_for_is_refused(options):
    config = config_from(target={"metric": "l2", "limit": 9.0}, **options)
    with pytest.raises(
        InputError, match=f"{next(iter(options))}: is for (pictures|random samples), and none of the data are"
    ):
        check_used([None, None], config)


def test_a_folder_of_pictures_goes_through_the_pipeline(tmp_path):
    folder = pictures(tmp_path / "data", count=8)
    config = config_from(target={"metric": "top1_drop", "limit": 1.0}, mean=[0.5], std=[0.2])
    outcome = auto_mixed_precision(
        saved(chain(), tmp_path),
        calibration=folder,
        evaluation=folder,
        config=config,
        output=tmp_path / "out",
        workers=1,
    )
    assert outcome.manifest.samples.evaluation == 8
    assert outcome.manifest.scores.float["top1"] is not None
    assert outcome.manifest.data.random == ()


def test_labels_of_another_name_are_found_in_arrays(tmp_path):
    arrays = {"x": np.zeros((3, 2), np.float32), "answer": np.arange(3)}
    form = form_of(one_input("N,2"), arrays, tmp_path, label_column="answer")
    data = open_columns(refer_data(arrays, tmp_path, form), tmp_path)
    assert (list(data.columns), data.labels.tolist()) == (["x"], [0, 1, 2])


def test_random_samples_have_the_shapes_of_the_inputs_and_index_a_table(tmp_path):
    form = form_of(EMBEDDING, "random", tmp_path, random_sizes=["S=6"], random_samples=40)
    assert form.inputs == (
        RandomInput(name="ids", type="int64", shape=(6,), low=0, high=49),
        RandomInput(name="mask", type="int64", shape=(6,), low=0, high=1),
    )
    data = open_columns(refer_data("random", tmp_path, form), tmp_path)
    ids = data.columns["ids"]
    assert (ids.shape, ids.min() >= 0, 40 < ids.max() <= 49) == ((40, 6), True, True)
    again = open_columns(refer_data("random", tmp_path / "again", form), tmp_path / "again")
    np.testing.assert_array_equal(ids, again.columns["ids"])


def test_ranges_can_be_said(tmp_path):
    ranges = ["ids=3:4", "mask=1:1"]
    form = form_of(EMBEDDING, "random", tmp_path, random_sizes=["ids:1=6", "mask:1=6"], random_range=ranges)
    data = open_columns(refer_data("random", tmp_path, form), tmp_path)
    assert set(np.unique(data.columns["ids"])) == {3, 4}
    assert set(np.unique(data.columns["mask"])) == {1}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "input ids leaves a size open; give it with --random-sizes S=SIZE"),
        ({"random_sizes": ["S=0"]}, "random_sizes: S=0 must be a size of at least 1"),
        ({"random_sizes": ["S"]}, "random_sizes: 'S' must be NAME=VALUE"),
        ({"random_sizes": ["S=3", "N=2"]}, "random_sizes: no input of"),
        ({"random_sizes": ["S=3"], "random_range": ["x=0:1"]}, "must be INPUT=LOW:HIGH with one of ids, mask"),
        ({"random_sizes": ["S=3"], "random_range": ["ids=5:1"]}, "must be INPUT=LOW:HIGH"),
    ],
)
def test_what_random_samples_cannot_be_made_of_is_refused(options, line, tmp_path):
    with pytest.raises(InputError) as caught:
        form_of(EMBEDDING, "random", tmp_path, **options)
    assert line in str(caught.value)


def test_calibration_evaluation_and_holdout_are_different_samples(tmp_path):
    config = config_from(target={"metric": "l2", "limit": 9.0})
    job = QuantizationJob.of(saved(chain(), tmp_path), "random", "random", "random", config, tmp_path / "o", tmp_path)
    assert job.random_data == ("calibration", "evaluation", "holdout")
    assert len({job.calibration.sha256, job.evaluation.sha256, job.holdout.sha256}) == 3


@pytest.mark.parametrize("limit", [1e3, -1.0])
def test_random_data_are_marked_in_whatever_is_written(limit, tmp_path):
    config = config_from(target={"metric": "l2", "limit": limit}, random_samples=8)
    given = {"calibration": "random", "evaluation": "random", "config": config, "output": tmp_path / "out"}
    try:
        auto_mixed_precision(saved(chain(), tmp_path), **given, workers=1)
    except TargetError as missed:
        assert str(missed).endswith("on random data (a dry run)")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["data"]["random"] == ["calibration", "evaluation"]
    model = onnx.load(tmp_path / "out/model.onnx")
    assert (
        "calibration, evaluation: a dry run"
        in {entry.key: entry.value for entry in model.metadata_props}["random_data"]
    )
    page = (tmp_path / "out/report.html").read_text()
    headline = f"Target {'met' if limit > 0 else 'missed'} on random data (a dry run)"
    assert page.count(headline) == page.count(headline.partition(" on ")[0]) >= 1


def test_only_random_data_are_marked(tmp_path):
    arrays = {"x": np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)}
    config = config_from(target={"metric": "l2", "limit": 1e3})
    given = {"calibration": arrays, "evaluation": arrays, "config": config, "output": tmp_path / "out"}
    outcome = auto_mixed_precision(saved(chain(), tmp_path), **given, workers=1)
    assert summary(outcome.manifest).headline == "Target met"
    notes = {entry.key: entry.value for entry in onnx.load(tmp_path / "out/model.onnx").metadata_props}
    assert "random_data" not in notes
    assert notes.pop("narrowcast.version") == outcome.manifest.narrowcast
    assert notes.pop("narrowcast.model_sha256") == outcome.manifest.input.sha256
    rest = {name: len(digest) for name, digest in notes.items()}
    assert rest == {"narrowcast.histograms_sha256": 64, "narrowcast.options_sha256": 64}


@pytest.mark.parametrize(("shift", "warnings"), [(0, 0), (1, 1)], ids=["right labels", "of other classes"])
def test_labels_no_better_than_guesses_are_told(shift, warnings, tmp_path):
    model, x = (
        build("(float[N,4] x) => (float[N,3] y) { y = MatMul(x, w) }", {"w": (4, 3)}),
        np.eye(4, dtype=np.float32),
    )
    labels = np.linalg.multi_dot([x, onnx.numpy_helper.to_array(model.graph.initializer[0])]).argmax(axis=1)
    data, said = {"x": x, "labels": (labels + shift) % 3}, Said()
    config = config_from(target={"metric": "top1_drop", "limit": 0.5})
    with watched_by(said):
        auto_mixed_precision(saved(model, tmp_path), calibration=data, evaluation=data, config=config, output=tmp_path)
    assert sum("Top-1 is 0.0%, where guessing one of 3 classes gives 33.3%" in line for line in said.said) == warnings


def test_outputs_of_random_numbers_are_refused(tmp_path):
    body = "{ r = RandomNormalLike(x)  h = Add(x, r)  y = MatMul(h, w) }"
    model, data = build(f"(float[N,4] x) => (float[N,3] y) {body}", {"w": (4, 3)}), {"x": np.eye(4, dtype=np.float32)}
    config = config_from(target={"metric": "l2", "limit": 1.0})
    with pytest.raises(InputError, match="computed from random numbers .RandomNormalLike"):
        auto_mixed_precision(
            saved(model, tmp_path),
            calibration=data,
            evaluation=data,
            config=config,
            output=tmp_path / "out/deep",
        )
    assert not (tmp_path / "out").exists()
