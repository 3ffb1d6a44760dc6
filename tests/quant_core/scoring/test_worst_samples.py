"""The samples that a model does worst on, and pictures of them."""

from __future__ import annotations

import zlib

import numpy as np
import pyarrow as pa
import pytest

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.scoring.thumbnails import thumbnail
from quant_core.scoring.worst_samples import worst_rows
from quant_core.storage.schemas import SCORES
from tests.models import build
from tests.quant_core.workbench import saved


def scores(l2, **columns) -> pa.Table:
    rows = {"l2": l2, "signal": [1.0] * len(l2), "error": [value**2 for value in l2], "cosine": [0.0] * len(l2)}
    rows |= columns
    return pa.table({field.name: pa.array(rows.get(field.name, [None] * len(l2)), field.type) for field in SCORES})


@pytest.mark.parametrize(
    ("metric", "columns", "worst"),
    [
        ("l2", {}, [2, 1, 3]),
        ("cosine", {"cosine": [0.0, 0.2, 0.1, 0.3]}, [3, 1, 2]),
        ("kl", {"kl": [0.0, 0.5, 0.4, 0.6]}, [3, 1, 2]),
        ("kl", {}, [2, 1, 3]),
        ("top1_drop", {"float_top1": [1.0, 0.0, 1.0, 1.0], "top1": [1.0, 1.0, 1.0, 0.0]}, [3, 2, 1]),
        ("metric_drop", {}, [2, 1, 3]),
    ],
)
def test_the_worst_come_first_and_those_without_an_error_not_at_all(metric, columns, worst):
    rows, distances = worst_rows(scores([0.0, 0.3, 0.4, 0.1], **columns), metric)
    assert rows.tolist() == worst
    assert distances.tolist() == [[0.0, 0.3, 0.4, 0.1][row] for row in worst]


def unpacked(png: bytes) -> tuple[int, int, np.ndarray]:
    width, height, channels = int.from_bytes(png[16:20]), int.from_bytes(png[20:24]), {0: 1, 2: 3}[png[25]]
    size = int.from_bytes(png[33:37])
    rows = np.frombuffer(zlib.decompress(png[41 : 41 + size]), np.uint8).reshape(height, 1 + width * channels)
    return width, height, rows[:, 1:].reshape(height, width, channels)


def test_a_picture_has_its_channels_behind_and_its_values_stretched():
    image = np.zeros((3, 10, 200), np.float32)
    image[1], image[2, :, :100] = 2.0, -2.0
    width, height, pixels = unpacked(thumbnail(image))
    assert (width, height) == (67, 4)
    assert pixels[0, 0].tolist() == [128, 255, 0] and pixels[0, -1].tolist() == [128, 255, 128]
    assert thumbnail(image.transpose(1, 2, 0)) == thumbnail(image)


@pytest.mark.parametrize("shape", [(3, 4, 4), (16,), (2, 9, 9), (5, 9, 9)])
def test_what_is_no_picture_has_none(shape):
    assert thumbnail(np.ones(shape, np.float32)) is None


def test_a_run_keeps_its_worst_samples_with_both_answers(tmp_path):
    generator = np.random.default_rng(0)
    weight = generator.normal(size=(192, 5)).astype(np.float32)
    model = build("(float[N,3,8,8] x) => (float[N,5] y) { f = Flatten(x)  y = Gemm(f, w) }", {"w": weight})
    images = generator.normal(size=(12, 3, 8, 8)).astype(np.float32)
    labels = np.arange(12) % 5
    config = config_from(target={"metric": "l2", "limit": 1e3}, narrow=["a8w4"], classes=["y=1"])
    data = {"x": images, "labels": labels}
    run = auto_mixed_precision(
        saved(model, tmp_path), calibration=data, evaluation=data, config=config, output=tmp_path / "out", workers=1
    )
    found = run.table("samples").to_pylist()
    exact = images.reshape(12, -1) @ weight
    assert len(found) == 8 and found == sorted(found, key=lambda row: -row["l2"])
    for row in found:
        assert row["float_class"] == exact[row["sample"]].argmax() and row["label"] == labels[row["sample"]]
        assert row["float"] == pytest.approx(exact[row["sample"]].max(), rel=1e-5)
        assert row["picture"] == thumbnail(images[row["sample"]])
    page = run.report.read_text()
    assert page.count("data:image/png;base64,") == 8 and f"class {found[0]['float_class']} (" in page
