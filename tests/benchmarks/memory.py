"""Peak memory of whole runs: it grows with a batch, not with the data.

    python -m tests.benchmarks.memory outputs                 # 64 samples of 80 steps x 6,625 classes each; a minute
    python -m tests.benchmarks.memory samples                 # 2,000 and 20,000 images of 3x32x32; four minutes
    python -m tests.benchmarks.memory samples --data evaluation.npz --model resnet20.onnx

Each run is a process of its own, so that its peak is its own; pages of files that it has mapped count. Exit code 1 when
large outputs take 1 GiB, or ten times the samples more than 1.2 times the memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx

_MOST_MIB, _MOST_GROWTH = 1024, 1.2


def text_recogniser() -> onnx.ModelProto:
    """A line of text, 48x320, to 80 steps of 6,625 classes: small weights, large outputs."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,48,320] x) => (float[N,80,6625] y) {
            [c1] a = Conv<strides=[4,4]>(x, w1)  b = Relu(a)
            [c2] c = Conv<strides=[12,1]>(b, w2)  d = Relu(c)
            e = Squeeze(d, two)  f = Transpose<perm=[0,2,1]>(e)
            [fc] g1 = MatMul(f, w3)  y = Softmax<axis=2>(g1)
        }"""
    )
    shapes = {"w1": (16, 3, 4, 4), "w2": (48, 16, 12, 1), "w3": (48, 6625)}
    return _filled(model, shapes, two=np.array([2]))


def small_network() -> onnx.ModelProto:
    """Three layers on images of 3x32x32."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,32,32] input) => (float[N,10] y) {
            [c1] a = Conv<strides=[2,2]>(input, w1)  b = Relu(a)
            [c2] c = Conv<strides=[2,2]>(b, w2)  d = Relu(c)
            e = GlobalAveragePool(d)  f = Flatten(e)
            [fc] y = Gemm(f, w3)
        }"""
    )
    return _filled(model, {"w1": (8, 3, 3, 3), "w2": (16, 8, 3, 3), "w3": (16, 10)})


def _filled(model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]], **constants: np.ndarray) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    arrays = {
        name: random.standard_normal(shape, np.float32) / np.prod(shape[1:]) ** 0.5 for name, shape in shapes.items()
    }
    for name, array in {**arrays, **constants}.items():
        kept = array.astype(np.float32) if name in shapes else array
        model.graph.initializer.append(onnx.numpy_helper.from_array(kept, name))
    return model


def write_samples(path: Path, name: str, shape: tuple[int, ...], count: int, given: Path | None = None) -> Path:
    """Write so many samples, random ones or those of a file over and over again, as a folder of shards."""
    path.mkdir()
    source = None if given is None else np.load(given)[name]
    random = np.random.default_rng(1)
    for first in range(0, count, 500):
        rows = np.arange(first, min(first + 500, count))
        values = (
            random.standard_normal((len(rows), *shape), np.float32) if source is None else source[rows % len(source)]
        )
        np.savez(path / f"{first:08d}.npz", **{name: values})
    return path


def run(model: Path, data: Path, limit: float, out: Path) -> None:
    """Quantize a model, and print what that took."""
    from quant_core import auto_mixed_precision
    from quant_core.config import config_from

    began = time.process_time()
    config = config_from(target={"metric": "l2", "limit": limit}, rank="l2-float", runtime="reference")
    outcome = auto_mixed_precision(model, calibration=data, evaluation=data, config=config, output=out)
    work = outcome.manifest.work
    print(
        f"    {work.probes} probes, {work.evaluations} plans, {time.process_time() - began:.0f} s of processor time",
        flush=True,
    )


def peak_of(*arguments: object) -> float:
    """Peak memory of a run in a process of its own, in MiB."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(sender, *arguments))
    process.start()
    sender.close()
    try:
        peak = receiver.recv()
    except EOFError:
        sys.exit("the run failed")
    process.join()
    return float(peak)


def _measured(sender: multiprocessing.connection.Connection, *arguments: object) -> None:
    run(*arguments)  # type: ignore[arg-type]
    status = Path("/proc/self/status").read_text()
    sender.send(int(status.partition("VmHWM:")[2].split()[0]) / 1024)


def outputs(options: argparse.Namespace, folder: Path) -> int:
    """Measure a run on large outputs."""
    onnx.save(text_recogniser(), folder / "model.onnx")
    data = write_samples(folder / "data", "x", (3, 48, 320), options.samples)
    peak = peak_of(folder / "model.onnx", data, 1e-4, folder / "out")
    size = options.samples * 80 * 6625 * 4 / 2**20
    print(f"{options.samples} samples with {size:.0f} MiB of outputs: peak {peak:.0f} MiB")
    return int(peak >= _MOST_MIB)


def samples(options: argparse.Namespace, folder: Path) -> int:
    """Measure a run on few samples, and one on ten times as many."""
    model = options.model
    if model is None:
        model = folder / "model.onnx"
        onnx.save(small_network(), model)
    peaks = []
    for count in (options.samples, 10 * options.samples):
        data = write_samples(folder / f"data{count}", "input", (3, 32, 32), count, options.data)
        peaks.append(peak_of(model, data, options.limit, folder / f"out{count}"))
        print(f"{count} samples: peak {peaks[-1]:.0f} MiB", flush=True)
    print(f"ten times the samples: {peaks[1] / peaks[0]:.2f} times the memory")
    return int(peaks[1] > _MOST_GROWTH * peaks[0])


def main() -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("outputs")
    one.add_argument("--samples", type=int, default=64)
    one.set_defaults(measure=outputs)
    other = commands.add_parser("samples")
    other.add_argument("--samples", type=int, default=2000)
    other.add_argument("--model", type=Path)
    other.add_argument("--data", type=Path)
    other.add_argument("--limit", type=float, default=0.018)
    other.set_defaults(measure=samples)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return int(options.measure(options, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
