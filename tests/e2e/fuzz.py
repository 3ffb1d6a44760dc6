"""Damaged models and data through the command line: exit 0, 2 or 3, no traceback, nothing half-written.

    python -m tests.e2e.fuzz                          # a million random bytes, 500 models, 200 data files
    python -m tests.e2e.fuzz --models 20 --data 20    # a short form
    python -m tests.e2e.fuzz --first 300 --last 399   # some of them; the same number twice: one case again

Each case is a process of its own, without Prefect; a crash or a hang of that is found as well. Exit code 1 if a case ends
otherwise than it may; its files are kept.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet

from flows.command_line import main
from quant_core import auto_mixed_precision
from quant_core.errors import TargetError
from tests.models import MODELS, samples

__all__ = ["Case", "cases", "fault_of", "run"]

_SECONDS = 20
"""What a case may take."""
_ALLOWED = (0, 2, 3)


@dataclass(frozen=True)
class Case:
    """A damaged input."""

    number: int
    """Start of its random numbers."""
    kind: str
    """What is damaged."""
    write: Callable[[random.Random, Path], None]
    """Writes model.onnx and a file of data into a folder."""


def _sound(generator: random.Random, folder: Path) -> onnx.ModelProto:
    model = MODELS[generator.choice(sorted(MODELS))]()
    onnx.save(model, folder / "model.onnx")
    np.savez(folder / "data.npz", **samples(model, 4))
    return model


def _random_bytes(generator: random.Random, folder: Path) -> None:
    _sound(generator, folder)
    (folder / "model.onnx").write_bytes(generator.randbytes(10_000))


def _mutated_model(generator: random.Random, folder: Path) -> None:
    model = _sound(generator, folder)
    for _ in range(generator.randint(1, 3)):
        generator.choice(_MUTATIONS)(generator, model.graph)
    onnx.save(model, folder / "model.onnx")


def _attribute(generator: random.Random, graph: onnx.GraphProto) -> None:
    entries = [entry for node in graph.node for entry in node.attribute]
    if not entries:
        return
    entry = generator.choice(entries)
    value = generator.choice([-(2**40), -1, 0, 1, 7, 2**40])
    if entry.type == onnx.AttributeProto.INTS and entry.ints:
        entry.ints[generator.randrange(len(entry.ints))] = value
    elif entry.type == onnx.AttributeProto.INT:
        entry.i = value
    elif entry.type == onnx.AttributeProto.FLOAT:
        entry.f = generator.choice([float("nan"), float("inf"), -1.0, 0.0])
    else:
        entry.name = "nonsense"


def _shape(generator: random.Random, graph: onnx.GraphProto) -> None:
    if generator.random() < 0.5 and graph.initializer:
        tensor = generator.choice(graph.initializer)
        if tensor.dims:
            tensor.dims[generator.randrange(len(tensor.dims))] = generator.choice([-1, 0, 1, 5, 2**31])
        return
    value = generator.choice([*graph.input, *graph.output])
    dims = value.type.tensor_type.shape.dim
    if dims:
        dims[generator.randrange(len(dims))].dim_value = generator.choice([-1, 0, 1, 5, 2**31])


def _name(generator: random.Random, graph: onnx.GraphProto) -> None:
    node = generator.choice(graph.node)
    other = generator.choice(graph.node)
    what = generator.randrange(4)
    if what == 0:
        node.name = other.name
    elif what == 1 and node.input:
        node.input[generator.randrange(len(node.input))] = generator.choice(["", "nowhere", other.output[0]])
    elif what == 2:
        node.output[0] = generator.choice(["", other.output[0]])
    else:
        node.op_type = generator.choice(["Conv", "Gemm", "Nonsense", "Softmax", "Add", "Gather"])


def _type(generator: random.Random, graph: onnx.GraphProto) -> None:
    kind = generator.choice([0, 1, 6, 7, 8, 9, 10, 11, 16, 99])
    if generator.random() < 0.5 and graph.initializer:
        generator.choice(graph.initializer).data_type = kind
    else:
        generator.choice([*graph.input, *graph.output]).type.tensor_type.elem_type = kind


_MUTATIONS = [_attribute, _shape, _name, _type]


def _mutated_bytes(generator: random.Random, folder: Path) -> None:
    _sound(generator, folder)
    _damage(generator, folder / "model.onnx")


def _damage(generator: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(generator.randint(1, 8)):
        content[generator.randrange(len(content))] = generator.randrange(256)
    if generator.random() < 0.3:
        del content[generator.randrange(len(content)) :]
    path.write_bytes(content)


def _mutated_data(generator: random.Random, folder: Path) -> None:
    model = MODELS["chain"]()
    onnx.save(model, folder / "model.onnx")
    arrays = samples(model, 4)
    kind = generator.choice(["npz", "npy", "parquet", "arrow", "stream", "png"])
    if kind == "npz":
        np.savez(folder / "data.npz", **arrays)
    elif kind == "npy":
        np.save(folder / "x.npy", arrays["x"])
    elif kind == "png":
        _pictures(generator, folder)
    else:
        columns = {name: pa.FixedShapeTensorArray.from_numpy_ndarray(array) for name, array in arrays.items()}
        _write_table(pa.table(columns), kind, folder)
    _damage(generator, _data_of(folder) if kind != "png" else next((folder / "pictures").iterdir()))


def _pictures(generator: random.Random, folder: Path) -> None:
    from PIL import Image

    (folder / "pictures").mkdir()
    pixels = np.frombuffer(generator.randbytes(8 * 8 * 3), np.uint8).reshape(8, 8, 3)
    Image.fromarray(pixels).save(folder / f"pictures/1.{generator.choice(['png', 'jpg'])}")


def _write_table(table: pa.Table, kind: str, folder: Path) -> None:
    if kind == "parquet":
        pa.parquet.write_table(table, folder / "data.parquet")
        return
    new = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
    with new(folder / "data.arrow", table.schema) as writer:
        writer.write_table(table)


def _data_of(folder: Path) -> Path:
    return next(path for path in sorted(folder.iterdir()) if path.name not in ("model.onnx", "out", "said"))


def cases(chunks: int, models: int, data: int) -> Iterator[Case]:
    """Yield the cases: chunks of random bytes, models of which a fifth has damaged bytes, and data files."""
    writers = [_random_bytes] * chunks
    writers += [_mutated_bytes if number % 5 == 4 else _mutated_model for number in range(models)]
    writers += [_mutated_data] * data
    for number, write in enumerate(writers):
        yield Case(number, write.__name__.strip("_"), write)


def run(case: Case, folder: Path) -> str:
    """Run a case in a process of its own; what is wrong with how it ended, or the exit code as a text."""
    case.write(random.Random(case.number), folder)
    began, child = time.monotonic(), os.fork()
    if not child:
        _in_child(folder)
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() - began > _SECONDS:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"takes more than {_SECONDS} s"
        time.sleep(0.005)
    return fault_of(os.waitstatus_to_exitcode(ended[1]), folder) or str(os.waitstatus_to_exitcode(ended[1]))


def _in_child(folder: Path) -> None:
    """Run the command, its engine without Prefect, and leave."""
    with (folder / "said").open("w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    data = str(_data_of(folder))
    sys.argv = ["narrowcast", "auto", str(folder / "model.onnx"), "--calibration", data, "--evaluation", data]
    sys.argv += ["--max-l2", "1e9", "--out", str(folder / "out"), "--workspace", str(folder / "out.workspace")]
    os.environ["PREFECT_API_URL"] = "http://127.0.0.1:9/api"  # nothing asks for it, and no server is started
    code = 99
    try:
        with mock.patch("flows.command_line.auto.quantize", _quantize):
            main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 99
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _quantize(inputs: dict, config: object, as_json: bool) -> int:
    given = {name: inputs[name] for name in ("calibration", "evaluation", "holdout")}
    try:
        auto_mixed_precision(inputs["model"], **given, config=config, output=inputs["out"], workers=1)
    except TargetError as missed:
        print("missed:", missed)
        return 3
    return 0


def fault_of(code: int, folder: Path) -> str:
    """Return what is wrong with how a case ended; empty if nothing."""
    said, out = (folder / "said").read_text(errors="replace"), folder / "out"
    lines = [line for line in said.splitlines() if line.startswith("narrowcast: ")]
    written = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if code not in _ALLOWED:
        return f"exit {code}: {said[-400:]}"
    if "Traceback" in said:
        return f"a traceback: {said[-400:]}"
    if code == 2 and (written or not lines):
        return f"exit 2 with {written or 'no line'}: {said[-400:]}"
    if code != 2 and not {"manifest.json", "model.onnx"} <= set(written):
        return f"exit {code}, and written is only {written}"
    return ""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=100, help="files of 10,000 random bytes")
    parser.add_argument("--models", type=int, default=500)
    parser.add_argument("--data", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="number of the first case to run")
    parser.add_argument("--last", type=int, default=sys.maxsize, help="number of the last one")
    return parser.parse_args()


def _fuzz(given: argparse.Namespace) -> int:
    ends: Counter[str] = Counter()
    place, faults = Path(tempfile.mkdtemp(prefix="fuzz-")), 0
    for case in cases(given.chunks, given.models, given.data):
        if not given.first <= case.number <= given.last:
            continue
        folder = place / str(case.number)
        folder.mkdir()
        end = run(case, folder)
        if end.isdecimal():
            shutil.rmtree(folder)
        else:
            faults += 1
            print(f"case {case.number} ({case.kind}): {end}; kept in {folder}", flush=True)
        ends[f"{case.kind}: {f'exit {end}' if end.isdecimal() else 'fault'}"] += 1
    for end, count in sorted(ends.items()):
        print(f"{count:5d} {end}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(_fuzz(_arguments()))
