"""The numbers of the wide model beside AMD Quark's: same data, symmetric, per tensor, compared by tensor name.

    python -m venv quark && quark/bin/pip install torch==2.13.0 amd-quark==0.13 onnxruntime==1.28.0
    python -m tests.benchmarks.quark_scales --quark-python quark/bin/python --model model.onnx --data images.npz \\
        --method NonOverflow --activations QInt8

Power-of-two methods run with PowerOfTwoRounding 'nearest', as Quark rounds; and once more with our own rounding, to
count what saturates on the calibration data. Exit code 1 where a scale of a tensor that both models quantize, or a
weight code, differs. With --keep FOLDER Quark's models are kept there and used again.

What is known to differ: Quark gives what an AveragePool puts out the scale of what it reads, as ONNX Runtime's own
quantizer does, and with power-of-two scales (AlignPool, for the sake of a device) that of every pool, which --free-pools
switches off; here what was averaged has a range of its own. Where a scale is rounded down, weights saturate at -127
in Quark and at -128 here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from quant_core.quark import CalibrationMethod, Config, ModelQuantizer, PowerOfTwoMethod, QuantizationConfig, QuantType
from tests.benchmarks.processes import measured

_CLOSE = 1e-6
"""Relative difference up to which two scales are the same."""

Array = np.ndarray


@dataclass(frozen=True)
class Numbers:
    """What a model with Q/DQ pairs holds."""

    activations: Mapping[str, float]
    """Scale by tensor."""
    weights: Mapping[str, tuple[Array, float]]
    """Codes and scale by the node that reads them."""
    zero_points: Mapping[str, int]
    """Zero point by tensor."""

    @classmethod
    def of(cls, path: Path) -> Numbers:
        """Read a file."""
        graph = onnx.load(path).graph
        constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        pairs = [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] not in constants]
        scales = {_bare(node.input[0]): float(constants[node.input[1]]) for node in pairs}
        zeros = {_bare(node.input[0]): int(constants[node.input[2]]) for node in pairs}
        stored = {
            node.output[0]: (constants[node.input[0]], float(constants[node.input[1]]))
            for node in graph.node
            if node.op_type == "DequantizeLinear" and node.input[0] in constants and not constants[node.input[1]].ndim
        }
        layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul", "ConvTranspose")]
        weights = {node.name: stored[node.input[1]] for node in layers if node.input[1] in stored}
        return cls(scales, weights, zeros)


def _bare(name: str) -> str:
    return name.removesuffix("/float").removesuffix("_QuantizeLinear_Input")


class Batches:
    """The data in batches, once."""

    def __init__(self, data: Mapping[str, Array], size: int) -> None:
        count = len(next(iter(data.values())))
        self.left = iter({name: array[at : at + size] for name, array in data.items()} for at in range(0, count, size))

    def get_next(self) -> dict[str, Array] | None:
        """The next batch."""
        return next(self.left, None)


def ours(options: argparse.Namespace, data: Mapping[str, Array], out: Path, rounding: str) -> Numbers:
    """The same model by quant_core.quark, with the same fields."""
    method = getattr(PowerOfTwoMethod, options.method, None) or getattr(CalibrationMethod, options.method)
    extra = {"PowerOfTwoRounding": rounding} if isinstance(method, PowerOfTwoMethod) and rounding != "up" else {}
    config = QuantizationConfig(
        calibrate_method=method,
        activation_type=getattr(QuantType, options.activations),
        weight_type=getattr(QuantType, options.weights),
        include_cle=False,
        print_summary=False,
        extra_options={"ActivationSymmetric": True, **extra},
    )
    ModelQuantizer(Config(config)).quantize_model(options.model, out, Batches(data, options.batch))
    return Numbers.of(out)


def distance(model: Path, file: Path, data: Mapping[str, Array]) -> float:
    """Mean L2 of the first output to the float model's."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    expected, found = (
        np.concatenate([session.run(None, batch)[0] for batch in iter(Batches(data, 64).get_next, None)])
        for session in (
            ort.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in (model, file)
        )
    )
    return float(np.linalg.norm((found - expected).reshape(len(found), -1), axis=1).mean())


def saturated(model: Path, numbers: Numbers, file: Path, data: Mapping[str, Array]) -> int:
    """How many values of the calibration data lie beyond the codes of their tensor, by more than rounding."""
    proto = onnx.load(model)
    known = {name for node in proto.graph.node for name in node.output} | {value.name for value in proto.graph.input}
    names = [name for name in numbers.activations if name in known]
    made = {value.name for value in proto.graph.output} | {value.name for value in proto.graph.input}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in made)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    bits = 8 if _widest(file) == 8 else 16
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    found = 0
    for batch in iter(Batches(data, 64).get_next, None):
        outputs = [value.name for value in session.get_outputs()]
        values = dict(zip(outputs, session.run(None, batch), strict=True)) | batch
        for name in names:
            codes = np.rint(values[name] / numbers.activations[name])
            found += int(((codes < least) | (codes > most)).sum())
    return found


def _widest(file: Path) -> int:
    kinds = {tensor.data_type for tensor in onnx.load(file).graph.initializer if tensor.name.endswith("/zero_point")}
    return 16 if onnx.TensorProto.INT16 in kinds else 8


def compare(options: argparse.Namespace, folder: Path) -> bool:
    """Print what is the same and what is not; whether all that both have is the same."""
    pools = "free" if options.free_pools else "aligned"
    name = f"{options.model.stem}_{options.method}_{options.activations}_{options.weights}_{pools}.onnx"
    theirs = (options.keep or folder) / name
    if not theirs.exists():
        script = str(Path(__file__).parent / "quark_wide_run.py")
        files = [str(path.resolve()) for path in (options.model, options.data, theirs)]
        settings = [options.method, options.activations, options.weights, str(options.batch)]
        settings.append("no" if options.free_pools else "yes")
        measured([options.quark_python, script, *files, *settings], folder=folder)
    data = {name: array for name, array in np.load(options.data).items() if name != "labels"}
    quark, own = Numbers.of(theirs), ours(options, data, folder / "own.onnx", "nearest")
    both = sorted(quark.activations.keys() & own.activations.keys())
    unlike = [one for one in both if abs(own.activations[one] / quark.activations[one] - 1) > _CLOSE]
    print(f"## {options.model.stem}, {options.method}, {options.activations} x {options.weights}, pools {pools}")
    print(f"activations: {len(both)} quantized by both, {len(both) - len(unlike)} scales equal")
    for one in unlike:
        print(f"  {one}: quark {quark.activations[one]:.9g}, here {own.activations[one]:.9g}")
    for who, mine, other in (("quark", quark, own), ("here", own, quark)):
        alone = [one for one in mine.activations if one not in other.activations]
        print(f"only {who}: {len(alone)} {', '.join(alone[:12])}{' ...' if len(alone) > 12 else ''}")
    wrong = _weights(quark, own)
    l2 = [distance(options.model, file, data) for file in (theirs, folder / "own.onnx")]
    print(f"L2 on the data: quark {l2[0]:.6g}, here {l2[1]:.6g}, {100 * (l2[1] / l2[0] - 1):+.3f}%")
    if options.method == "NonOverflow":
        for rounding in ("nearest", "up"):
            numbers = ours(options, data, folder / "up.onnx", rounding)
            print(
                f"saturated values, rounding {rounding}: {saturated(options.model, numbers, folder / 'up.onnx', data)}"
            )
    return not unlike and not wrong


def _weights(quark: Numbers, own: Numbers) -> int:
    """Compare codes and scales of weights; how many differ, ties apart."""
    both = sorted(quark.weights.keys() & own.weights.keys())
    scales = sum(abs(own.weights[name][1] / quark.weights[name][1] - 1) > _CLOSE for name in both)
    pairs = [(own.weights[name][0].astype(int), quark.weights[name][0].astype(int)) for name in both]
    ends = sum(int(((mine == -128) & (other == -127)).sum()) for mine, other in pairs)
    apart = np.concatenate([np.abs(np.maximum(mine, -127) - other).ravel() for mine, other in pairs])
    ties, beyond = int((apart == 1).sum()), int((apart > 1).sum())
    print(f"weights: {len(both)} layers in both, {scales} scales differ")
    print(f"codes: {apart.size}, of them {ends} saturated at -128 instead of -127, {ties} off by one, {beyond} by more")
    return scales + beyond


def main() -> None:
    """Compare what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quark-python", default="python", help="the Python of Quark's environment")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="an .npz with an array for each input")
    parser.add_argument("--method", default="NonOverflow", choices=["NonOverflow", "MinMSE", "MinMax"])
    parser.add_argument("--activations", default="QInt8", choices=["QInt8", "QInt16"])
    parser.add_argument("--weights", default="QInt8", choices=["QInt8"])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--free-pools", action="store_true", help="run Quark with AlignPool=False")
    parser.add_argument("--keep", type=Path, help="folder of Quark's models")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        same = compare(options, Path(temporary))
    sys.exit(not same)


if __name__ == "__main__":
    main()
