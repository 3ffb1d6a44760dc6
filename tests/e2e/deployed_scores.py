"""Is the score that a run tells that of its file in a default session? Every kind of precision, on real models.

    python -m tests.e2e.deployed_scores --model M.onnx --calibration C.npz --evaluation E.npz [--samples 256]
    python -m tests.e2e.deployed_scores --made mlp squeezenet encoder mha [--samples 256]

For each model and each of a16w8, a8w8, au8w8, au8w8 per channel, a8w4, a16w4 in blocks, and float32 with all candidates,
`narrowcast auto` narrows what it can, and its file is scored here: by numpy, from what plain sessions of ONNX Runtime
give, the float model and the file each opened anew with the defaults. A row says how far the told L2 is off. Exit code 1
where one is off by more than 0.5%. An encoder layer and a multi-head attention are exported by torch, which is
to be installed then; the other networks are made in code with seeded weights.
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
from numpy.typing import NDArray

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.errors import NarrowcastError, TargetError

__all__ = ["KINDS", "main", "measured_l2"]

LARGEST = 5e-3
"""How far the told L2 may be off, as a share of the measured one."""

_ONE_SCALE: dict[str, object] = {"per_channel": False}

KINDS: Mapping[str, dict[str, object]] = {
    "a16w8": {"wide": "a16w16", "narrow": ["a16w8"], **_ONE_SCALE},
    "a8w8": {"wide": "a16w8", "narrow": ["a8w8"], **_ONE_SCALE},
    "au8w8": {"wide": "au16w8", "narrow": ["au8w8"], **_ONE_SCALE},
    "au8w8 per channel": {"wide": "au16w8", "narrow": ["au8w8"]},
    "a8w4": {"wide": "a16w8", "narrow": ["a8w4"], **_ONE_SCALE},
    "a16w4 in blocks": {"wide": "a16w8", "narrow": ["a16w4"], "block_size": 32, **_ONE_SCALE},
    "float32, all": {"wide": "float32", **_ONE_SCALE},
    "float32, all, per channel": {"wide": "float32"},
}
"""What is asked for, by what the table calls it; every layer is narrowed, for nothing limits it."""

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Case:
    """A model with its data."""

    name: str
    model: Path
    calibration: Arrays
    evaluation: Arrays


def measured_l2(floats: Path, quantized: Path, feeds: Arrays) -> float:
    """Mean over samples of the Euclidean norm of the difference of the first output, in default sessions."""
    before, after = (_outputs(path, feeds) for path in (floats, quantized))
    return float(np.linalg.norm((after - before).reshape(len(before), -1), axis=1).mean())


def _outputs(path: Path, feeds: Arrays) -> NDArray[np.float64]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names, fixed = [value.name for value in session.get_inputs()], session.get_inputs()[0].shape[0]
    step, count = fixed if isinstance(fixed, int) else 50, len(feeds[names[0]])
    parts = [
        session.run(None, {name: feeds[name][at : at + step] for name in names})[0] for at in range(0, count, step)
    ]
    return np.asarray(np.concatenate(parts), np.float64)


def _made(name: str, folder: Path, samples: int) -> Case:
    path, shape = folder / f"{name}.onnx", {"mlp": (64,), "squeezenet": (3, 64, 64)}.get(name, (24, 64))
    rng = np.random.default_rng(0)
    if name in ("mlp", "squeezenet"):
        onnx.save(mlp(rng) if name == "mlp" else squeezenet(rng), path)
    else:
        _exported(name, path, shape)
    calibration, evaluation = ({"x": rng.normal(size=(n, *shape)).astype(np.float32)} for n in (64, samples))
    return Case(name, path, calibration, evaluation)


def _exported(name: str, path: Path, shape: tuple[int, ...]) -> None:
    """Have torch export one of its layers."""
    import torch

    torch.manual_seed(0)
    layer: torch.nn.Module = torch.nn.TransformerEncoderLayer(shape[-1], 4, 128, batch_first=True)
    if name == "mha":

        class Attention(torch.nn.Module):
            """Attention of a sequence to itself."""

            def __init__(self) -> None:
                super().__init__()
                self.inner = torch.nn.MultiheadAttention(shape[-1], 4, batch_first=True)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                """Attend."""
                return self.inner(x, x, x, need_weights=False)[0]

        layer = Attention()
    torch.onnx.export(
        layer.train(False),
        (torch.zeros(2, *shape),),
        path,
        input_names=["x"],
        output_names=["y"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def mlp(rng: np.random.Generator) -> onnx.ModelProto:
    """Three MatMuls with biases and Relus."""
    nodes, constants, read = [], {}, "x"
    for at, (inputs, outputs) in enumerate([(64, 128), (128, 128), (128, 10)]):
        constants[f"w{at}"] = rng.normal(0, (2 / inputs) ** 0.5, (inputs, outputs)).astype(np.float32)
        constants[f"b{at}"] = rng.normal(0, 0.1, outputs).astype(np.float32)
        nodes.append(onnx.helper.make_node("MatMul", [read, f"w{at}"], [f"m{at}"], name=f"dense{at}"))
        nodes.append(onnx.helper.make_node("Add", [f"m{at}", f"b{at}"], ["y" if at == 2 else f"a{at}"]))
        if at < 2:
            nodes.append(onnx.helper.make_node("Relu", [f"a{at}"], [f"r{at}"]))
            read = f"r{at}"
    return _model(nodes, constants, [64])


def squeezenet(rng: np.random.Generator) -> onnx.ModelProto:
    """SqueezeNet 1.1 (Iandola et al., 2016) with random weights, for small images."""
    nodes: list[onnx.NodeProto] = []
    constants: Arrays = {}

    def conv(read: str, name: str, channels: tuple[int, int], size: int, **attributes: object) -> str:
        inputs, outputs = channels
        deviation = (2 / (inputs * size * size)) ** 0.5
        constants[f"{name}/w"] = rng.normal(0, deviation, (outputs, inputs, size, size)).astype(np.float32)
        constants[f"{name}/b"] = rng.normal(0, 0.02, outputs).astype(np.float32)
        nodes.append(
            onnx.helper.make_node("Conv", [read, f"{name}/w", f"{name}/b"], [f"{name}/c"], name=name, **attributes)
        )
        nodes.append(onnx.helper.make_node("Relu", [f"{name}/c"], [f"{name}/r"]))
        return f"{name}/r"

    def fire(read: str, name: str, inputs: int, squeezed: int, expanded: int) -> str:
        inner = conv(read, f"{name}/squeeze", (inputs, squeezed), 1)
        halves = [
            conv(inner, f"{name}/expand1", (squeezed, expanded), 1),
            conv(inner, f"{name}/expand3", (squeezed, expanded), 3, pads=[1, 1, 1, 1]),
        ]
        nodes.append(onnx.helper.make_node("Concat", halves, [f"{name}/out"], axis=1))
        return f"{name}/out"

    def pool(read: str, name: str) -> str:
        nodes.append(onnx.helper.make_node("MaxPool", [read], [name], kernel_shape=[3, 3], strides=[2, 2]))
        return name

    held = pool(conv("x", "stem", (3, 64), 3, strides=[2, 2]), "pool1")
    held = pool(fire(fire(held, "fire2", 64, 16, 64), "fire3", 128, 16, 64), "pool3")
    held = pool(fire(fire(held, "fire4", 128, 32, 128), "fire5", 256, 32, 128), "pool5")
    held = fire(fire(held, "fire6", 256, 48, 192), "fire7", 384, 48, 192)
    held = fire(fire(held, "fire8", 384, 64, 256), "fire9", 512, 64, 256)
    held = conv(held, "classes", (512, 10), 1)
    nodes.append(onnx.helper.make_node("GlobalAveragePool", [held], ["mean"]))
    nodes.append(onnx.helper.make_node("Flatten", ["mean"], ["y"]))
    return _model(nodes, constants, [3, 64, 64])


def _model(nodes: list[onnx.NodeProto], constants: Arrays, shape: list[int]) -> onnx.ModelProto:
    value, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    stored = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = onnx.helper.make_graph(
        nodes, "made", [value("x", kind, ["N", *shape])], [value("y", kind, ["N", 10])], stored
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)


def _told(case: Case, kind: str, folder: Path) -> tuple[float, float, Path]:
    """The told score as deployed, that of what the pairs say, and the file."""
    config = config_from(target={"metric": "l2", "limit": 1e9}, output=0, **KINDS[kind])
    out = folder / f"{case.name}-{kind}".replace(" ", "-").replace(",", "")
    try:
        outcome = auto_mixed_precision(
            case.model,
            calibration=case.calibration,
            evaluation=case.evaluation,
            config=config,
            output=out,
            cache=folder / "cache",
        )
    except TargetError as error:
        outcome = error.outcome
    manifest = outcome.manifest
    return manifest.scores.mixed["l2"], manifest.deployed.reference["l2"], outcome.folder / "model.onnx"


def main() -> None:
    """Print the table; exit with 1 where a score is off."""
    options = _options()
    off = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{'model':12} {'asked':26} {'pairs':>9} {'told':>9} {'measured':>9} {'off':>8}")
        for case in _cases(options, folder):
            for kind in KINDS:
                try:
                    told, pairs, file = _told(case, kind, folder)
                except NarrowcastError as error:
                    print(f"{case.name:12} {kind:26} {error}")
                    continue
                measured = measured_l2(case.model, file, case.evaluation)
                share = abs(told - measured) / measured if measured else 0.0
                off |= share > LARGEST
                row = f"{case.name:12} {kind:26} {pairs:9.4f} {told:9.4f} {measured:9.4f} {100 * share:7.3f}%"
                print(f"{row}{'  off' if share > LARGEST else ''}", flush=True)
    sys.exit(int(off))


def _cases(options: argparse.Namespace, folder: Path) -> list[Case]:
    if options.model is None:
        return [_made(name, folder, options.samples) for name in options.made]
    calibration, evaluation = (dict(np.load(path)) for path in (options.calibration, options.evaluation))
    few = {name: array[: options.samples] for name, array in evaluation.items()}
    return [Case(Path(options.model).stem, Path(options.model), calibration, few)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--calibration")
    parser.add_argument("--evaluation")
    parser.add_argument("--made", nargs="*", default=["mlp", "squeezenet"])
    parser.add_argument("--samples", type=int, default=256)
    return parser.parse_args()


if __name__ == "__main__":
    main()
