"""Does a file score on a processor without VNNI what it scores here? In QEMU's user mode, as an Intel Haswell (AVX2).

    python -m tests.e2e.without_vnni FLOAT.onnx EVALUATION.npz FILE.onnx ... [--samples 64]

Wants `qemu-x86_64` (Debian's qemu-user, 7.2 or newer) on x86-64 Linux. Each file is run in a default session here and in
the emulator, 20 to 100 times as long. A row has its L2 to the float model in both; exit code 1 where they differ by more
than 0.5%. First the emulator must show that it saturates: a product of bytes that does not fit into 16 bits.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from quant_core.runtimes.processor import adds_bytes_in_32_bits
from tests.e2e.deployed_scores import LARGEST

_EMULATOR = ("qemu-x86_64", "-cpu", "Haswell")
_BATCH = 32


def outputs(file: str, data: Path, samples: int) -> NDArray[np.float64]:
    """Return the first output of a file in a default session on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session, arrays = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"]), np.load(data)
    feeds = {value.name: arrays[value.name][:samples] for value in session.get_inputs()}
    starts = range(0, samples, _BATCH)
    parts = [session.run(None, {name: one[at : at + _BATCH] for name, one in feeds.items()})[0] for at in starts]
    return np.asarray(np.concatenate(parts), np.float64)


def main() -> int:
    """Print a row a file, or write the outputs of one where this is the emulated process."""
    given = _options()
    if given.write is not None:
        np.save(given.write, outputs(given.files[0], given.data, given.samples))
        return int(adds_bytes_in_32_bits())
    floats, off = outputs(given.float_model, given.data, given.samples), False
    for file in given.files:
        here, there = (
            _distance(floats, one) for one in (outputs(file, given.data, given.samples), _emulated(given, file))
        )
        off |= abs(there / here - 1) > LARGEST
        print(f"{file}: L2 {here:.5f} here, {there:.5f} without VNNI", flush=True)
    return int(off)


def _emulated(given: argparse.Namespace, file: str) -> NDArray[np.float64]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "outputs.npy")
        command = [*_EMULATOR, sys.executable, "-m", "tests.e2e.without_vnni", given.float_model, given.data, file]
        ended = subprocess.run(
            [*command, "--samples", str(given.samples), "--write", path], stderr=subprocess.DEVNULL, check=False
        )
        if ended.returncode or not path.exists():
            sys.exit(f"{file}: {'does not run' if not path.exists() else 'sums do not saturate'} in {_EMULATOR[0]}")
        return np.asarray(np.load(path))


def _distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(np.linalg.norm((first - second).reshape(len(first), -1), axis=1).mean())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("float_model", metavar="FLOAT.onnx")
    parser.add_argument("data", type=Path, metavar="EVALUATION.npz")
    parser.add_argument("files", nargs="+", metavar="FILE.onnx")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
