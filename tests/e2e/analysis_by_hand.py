"""The tensors and layers that `narrowcast analyse` names, beside those that a person finds with ONNX Runtime alone.

    narrowcast analyse model.onnx --calibration c.npz --evaluation e.npz --out analysis
    python -m tests.e2e.analysis_by_hand model.onnx e.npz analysis

By hand: the values of each tensor that a MatMul, Gemm or Conv reads, from the float model with those tensors as outputs, and
how much larger the largest is than 99.9% of them; then what ONNX Runtime's own quantizer makes of the model (all
layers at 8 bits), and how far each layer's output is off in it, by its module `qdq_loss_debug`. Exit code 1 where fewer
than four of the five widest tensors are the same, or the rank correlation of the layers' errors is below 0.7.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization import qdq_loss_debug as by_hand

Arrays = Mapping[str, NDArray[np.generic]]
_LAYERS = ("MatMul", "Gemm", "Conv")
_WIDEST, _ALIKE, _CORRELATED = 5, 4, 0.7


class Samples(CalibrationDataReader):
    """Hands out samples one by one."""

    def __init__(self, data: Arrays, count: int) -> None:
        self._left = iter([{name: array[at : at + 1] for name, array in data.items()} for at in range(count)])

    def get_next(self) -> Arrays | None:
        """Return the next sample; None behind the last."""
        return next(self._left, None)


def ratios(model: Path, data: Arrays) -> dict[str, float]:
    """Return for each tensor that a layer reads how many times 99.9% of its magnitudes the largest is."""
    whole = onnx.load(model)
    constants = {tensor.name for tensor in whole.graph.initializer}
    nodes = [node for node in whole.graph.node if node.op_type in _LAYERS]
    names = dict.fromkeys(name for node in nodes for name in node.input[:2] if name not in constants)
    inside = [name for name in names if name not in data]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inside)
    session = ort.InferenceSession(whole.SerializeToString(), providers=["CPUExecutionProvider"])
    found = dict(zip(inside, session.run(inside, dict(data)), strict=True))
    magnitudes = {name: np.abs(values) for name, values in found.items()}
    return {name: float(values.max() / np.quantile(values, 0.999)) for name, values in magnitudes.items()}


def errors(model: Path, data: Arrays, count: int) -> dict[str, float]:
    """Return for each layer, by name, the SQNR in dB of what it puts out in a model that ONNX Runtime has quantized."""
    with tempfile.TemporaryDirectory() as folder:
        plain, quantized, wider = (Path(folder, f"{name}.onnx") for name in ("float", "quantized", "wider"))
        sessions = []
        options = {"quant_format": QuantFormat.QDQ, "per_channel": True, "activation_type": QuantType.QInt8}
        quantize_static(model, quantized, Samples(data, count), op_types_to_quantize=list(_LAYERS), **options)
        for source, target in ((model, plain), (quantized, wider)):
            by_hand.modify_model_output_intermediate_tensors(source, target)
            sessions.append(by_hand.collect_activations(target, Samples(data, count)))
        matched = by_hand.create_activation_matching(sessions[1], sessions[0])
        found = by_hand.compute_activation_error(matched)
    written = {node.output[0]: node.name for node in onnx.load(model).graph.node if node.op_type in _LAYERS}
    return {written[name]: float(error["xmodel_err"]) for name, error in found.items() if name in written}


def ranks(values: list[float]) -> NDArray[np.intp]:
    """Return the place of each value in ascending order."""
    return np.argsort(np.argsort(values, kind="stable"), kind="stable")


def main() -> int:
    """Print both findings side by side."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("model", "data", "analysis"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--samples", type=int, default=16)
    given = parser.parse_args()
    with np.load(given.data) as stored:
        data = {name: stored[name][: given.samples] for name in stored.files if name != "labels"}
    told = json.loads((given.analysis / "analysis.json").read_text())
    hand = ratios(given.model, data)
    widest = sorted(hand, key=hand.__getitem__, reverse=True)[:_WIDEST]
    named = [one["tensor"] for one in told["tensors"] if one["tensor"] in hand][:_WIDEST]
    print(f"widest tensors by hand: {', '.join(f'{name} {hand[name]:.1f}' for name in widest)}")
    print(f"widest tensors told:    {', '.join(named)}")
    own = errors(given.model, data, given.samples)
    depth = {one["layer"]: one["accumulated"] for one in told["depth"] if one["precision"] == "a8w8"}
    both = [name for name in depth if name in own]
    correlation = float(np.corrcoef(ranks([own[name] for name in both]), ranks([depth[name] for name in both]))[0, 1])
    for name in sorted(both, key=own.__getitem__)[:_WIDEST]:
        print(f"worst layers by hand: {name} {own[name]:.1f} dB; told {depth[name]:.1f} dB")
    print(f"rank correlation of {len(both)} layers' errors: {correlation:.3f}")
    return int(len(set(widest) & set(named)) < _ALIKE or correlation < _CORRELATED)


if __name__ == "__main__":
    sys.exit(main())
