"""The classic image networks whose topologies the onnx package ships, with weights one can compute with.

    python -m tests.benchmarks.zoo densenet121 folder    # writes densenet121.onnx and images.npz

The package's own files hold constant weights. Here every weight is drawn from a seeded He-normal distribution
(He et al., "Delving Deep into Rectifiers", ICCV 2015), and each batch normalisation gets the statistics of its
own input over a few images, so that activations keep the scale they have in a trained network.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime as ort
from onnx import numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = sorted(file.stem.removeprefix("light_") for file in LIGHT.glob("*.onnx"))
"""Networks there are."""

OPSET = 21
"""The opset they are brought to: other tools cannot quantize what the package's files are in."""

_STATISTICS_IMAGES = 4


def images(count: int, shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Smooth random pictures, float32 [count, *shape], about standard normal."""
    random = np.random.default_rng(seed)
    channels, height, width = shape
    coarse = random.standard_normal((count, channels, -(-height // 16), -(-width // 16)), np.float32)
    fine = random.standard_normal((count, channels, height, width), np.float32)
    smooth = coarse.repeat(16, axis=2).repeat(16, axis=3)[:, :, :height, :width]
    return (0.9 * smooth + 0.4 * fine).astype(np.float32)


def network(name: str, seed: int = 0) -> onnx.ModelProto:
    """A network with seeded weights; its batch size is fixed to 1, as in the package's file."""
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    _draw_weights(model.graph, np.random.default_rng(seed))
    model.ir_version = 10  # initializers need not be listed as inputs
    model = onnx.version_converter.convert_version(model, OPSET)
    _set_statistics(model, images(_STATISTICS_IMAGES, input_shape(model), seed + 1))
    return model


def input_shape(model: onnx.ModelProto) -> list[int]:
    """Shape of one image."""
    return [dim.dim_value for dim in _image_input(model.graph).type.tensor_type.shape.dim][1:]


def _image_input(graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    constants = {tensor.name for tensor in graph.initializer}
    return next(value for value in graph.input if value.name not in constants)


def _draw_weights(graph: onnx.GraphProto, random: np.random.Generator) -> None:
    """Put a drawn initializer in the place of every ConstantOfShape, and drop what nothing reads any more."""
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    norms = {node.input[1] for node in graph.node if node.op_type == "BatchNormalization"}
    scales = {node.input[1] for node in graph.node if node.op_type == "Mul"}
    unsqueezed = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Unsqueeze"}
    ones = norms | {unsqueezed.get(name, name) for name in scales}
    drawn = [node for node in graph.node if node.op_type == "ConstantOfShape"]
    for node in drawn:
        graph.node.remove(node)
        values = _weight(shapes[node.input[0]], random, around_one=node.output[0] in ones)
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
    read = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)
    for value in [value for value in graph.input if value.name in shapes]:
        graph.input.remove(value)


def _weight(shape: np.ndarray, random: np.random.Generator, around_one: bool) -> np.ndarray:
    spread = 0.05 if len(shape) < 2 else math.sqrt(2 / max(int(np.prod(shape[1:])), 1))
    return (random.normal(0, spread, shape) + around_one).astype(np.float32)


def _set_statistics(model: onnx.ModelProto, pictures: np.ndarray) -> None:
    """Walk the graph from normalisation to normalisation, setting each one's mean and variance from its input."""
    graph = model.graph
    values = [{_image_input(graph).name: picture[np.newaxis]} for picture in pictures]
    constants = {tensor.name: tensor for tensor in graph.initializer}
    waiting: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            _run(model, waiting, constants, values)
            waiting = []
            seen = np.concatenate([known[node.input[0]] for known in values])
            for name, statistic in zip(
                node.input[3:5], (seen.mean((0, 2, 3)), seen.var((0, 2, 3)) + 1e-3), strict=True
            ):
                constants[name].CopyFrom(numpy_helper.from_array(statistic.astype(np.float32), name))
        waiting.append(node)


def _run(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, onnx.TensorProto],
    values: Sequence[dict[str, np.ndarray]],
) -> None:
    """Add to each picture's values what the nodes compute from them."""
    produced = list(dict.fromkeys(name for node in nodes for name in node.output if name))
    read = dict.fromkeys(name for node in nodes for name in node.input if name and name not in produced)
    part = onnx.helper.make_graph(
        nodes,
        "part",
        [onnx.helper.make_tensor_value_info(name, _FLOAT, None) for name in read if name not in constants],
        [onnx.ValueInfoProto(name=name) for name in produced],
        [constants[name] for name in read if name in constants],
    )
    made = onnx.helper.make_model(part, opset_imports=model.opset_import, ir_version=8)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    for known in values:
        known.update(zip(produced, session.run(produced, {name: known[name] for name in names}), strict=True))


_FLOAT = onnx.TensorProto.FLOAT


def write(name: str, folder: Path, count: int) -> tuple[Path, Path]:
    """Write a network and that many images; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    model = network(name)
    paths = folder / f"{name}.onnx", folder / "images.npz"
    onnx.save(model, paths[0])
    np.savez(paths[1], **{_image_input(model.graph).name: images(count, input_shape(model), seed=7)})
    return paths


def main() -> None:
    """Write what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=64)
    options = parser.parse_args()
    print(*write(options.name, options.folder, options.images))


if __name__ == "__main__":
    main()
