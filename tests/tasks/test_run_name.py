"""What task runs are called."""

import pyarrow as pa
import pytest

from quant_core.pipeline.stages import STAGES
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.scoring.sampling import Samples
from quant_core.storage.references import Reference
from tasks.run_name import run_name

DATA = Reference(url="s3://user:secret@bucket/data/images.npz?token=secret", sha256="0" * 64)
LAYERS = pa.table({"layer": [f"conv{place}" for place in range(1, 41)]})
PLAN = {"a": "a8w8", "b": "a16w8", "c": "a8w8"}


def probe(*places):
    return {
        "recipe": QuantizationRecipe(LAYERS, None, None),
        "shard": [f"conv{place}" for place in places],
        "precision": "a8w8",
        "samples": Samples(DATA, 64, 128),
    }


@pytest.mark.parametrize(
    ("stage", "arguments", "place", "name"),
    [
        ("probe", probe(*range(24, 32)), (3, 8), "probe shard 3/8 · layers 24-31 at a8w8 · samples 64-128"),
        ("probe", probe(7), (1, 1), "probe layer 7 at a8w8 · samples 64-128"),
        ("probe", probe(9, 2, 3, 1, 5, 40, 12), (1, 1), "probe layers 1-3, 5, 9 and 2 more at a8w8 · samples 64-128"),
        (
            "probe-tensors",
            {"shard": [["e"], ["s", "t"]], "samples": Samples(DATA, 0, 8)},
            (1, 1),
            "probe-tensors 2 tensors alone quantized · samples 0-8",
        ),
        ("latency", {"precisions": ["float32", "au8w8"]}, (1, 1), "latency of layers at float32, au8w8"),
        ("timing", {"models": {"float": DATA, "mixed": DATA}}, (1, 1), "timing of float, mixed"),
        ("migrate", {"precision": "a8w8", "data": DATA}, (1, 1), "migrate factors for a8w8 on images.npz"),
        ("reconstruct", {"plan": {"conv": "a8w4"}, "data": DATA}, (1, 1), "reconstruct weights of a8w4 on images.npz"),
        (
            "round",
            {"weights": "u4", "alone": True, "data": DATA},
            (1, 1),
            "round weights to uint4 beside floats on images.npz",
        ),
        ("calibrate", {"data": DATA}, (1, 1), "calibrate on images.npz"),
        ("baseline", {"data": DATA}, (1, 1), "baseline float outputs for images.npz"),
        ("prepare", {"model": Reference(url="/models/net.onnx", sha256="0" * 64)}, (1, 1), "prepare net.onnx"),
        (
            "evaluate",
            {"plan": PLAN, "samples": Samples(DATA, 0, 50)},
            (1, 1),
            "evaluate 2 a8w8 + 1 a16w8 · samples 0-50",
        ),
        ("export", {"plan": PLAN}, (1, 1), "export 2 a8w8 + 1 a16w8"),
        ("rank", {"layers": LAYERS}, (1, 1), "rank 40 layers"),
        ("verify", {"data": DATA}, (1, 1), "verify the written file on images.npz"),
    ],
)
def test_a_name_says_what_is_done_on_what(stage, arguments, place, name):
    assert run_name(stage, STAGES[stage].detail(arguments), *place) == name


@pytest.mark.parametrize(
    ("title", "detail", "place", "name"),
    [
        ("another", "", (2, 3), "another shard 2/3"),
        ("search round 2", "9 a8w8", (1, 1), "search round 2 · 9 a8w8"),
        ("search round 2", "9 a8w8", (1, 3), "search round 2 shard 1/3 · 9 a8w8"),
    ],
)
def test_a_name_begins_with_its_title(title, detail, place, name):
    assert run_name(title, detail, *place) == name
