"""Would the tests notice? Each rule of quantizing is broken in a copy of the source, one at a time.

    python -m tests.mutations               # all; some minutes
    python -m tests.mutations axis bias     # those whose name has one of the words

Prints, for each, the first tests that fail. Exit code 1 if a mutation survives.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[1]

_TESTS = [
    "tests/quant_core/test_numerics.py",
    "tests/quant_core/model/test_edge_types.py",
    "tests/quant_core/quantization/test_biases.py",
    "tests/quant_core/quantization/test_quantizer.py",
    "tests/quant_core/quantization/plan_graph/test_qdq.py",
    *(f"tests/quant_core/calibration/test_{name}.py" for name in ("histogram", "ranges", "range_methods")),
    "tests/quant_core/model/test_layers.py",
    "tests/quant_core/test_types.py",
]
"""The tests of the rules, the quickest first."""

_SHOWN = 3
"""How many failing tests are waited for."""


@dataclass(frozen=True)
class Mutation:
    """One line of the source, and what it becomes."""

    name: str
    file: str
    """In quant_core."""
    old: str
    """Occurs in the file exactly once."""
    new: str


MUTATIONS = [
    Mutation(
        "truncate instead of round",
        "numerics.py",
        "np.rint(codes, out=codes)",
        "np.trunc(codes, out=codes)",
    ),
    Mutation(
        "halves up instead of to even",
        "numerics.py",
        "np.rint(codes, out=codes)",
        "np.floor(codes + 0.5, out=codes)",
    ),
    Mutation(
        "wrap around instead of saturate",
        "numerics.py",
        "np.clip(codes, smallest, largest, out=codes)",
        "codes.astype(np.int64)",
    ),
    Mutation(
        "symmetric scale over 128",
        "numerics.py",
        "np.maximum(-low, high) / largest)",
        "np.maximum(-low, high) / -smallest)",
    ),
    Mutation("zero point rounded down", "numerics.py", "np.rint(smallest - low", "np.floor(smallest - low"),
    Mutation(
        "a range that does not hold zero",
        "numerics.py",
        "np.minimum(np.asarray(low, np.float64), 0)",
        "np.asarray(low, np.float64)",
    ),
    Mutation("stale bias", "quantization/quantizer.py", "key = (index, precision)", "key = (index, self.config.wide)"),
    Mutation(
        "bias overflows int32",
        "quantization/quantizer.py",
        "return np.maximum(scale, round_up(needed) if self.config.has_power_of_two_scales else needed)",
        "return scale",
    ),
    Mutation("bias of a grouped ConvTranspose in the wrong order", "quantization/biases.py", "np.tile(", "np.repeat("),
    Mutation(
        "the wide range for every type",
        "quantization/quantizer.py",
        "range_method(self.config)(merged, dtype, self.config.is_symmetric)",
        "range_method(self.config.model_copy(update={'calibrate': 'minmax'}))(merged, dtype, self.config.is_symmetric)",
    ),
    Mutation(
        "narrow weight from the codes of the wide one",
        "quantization/quantizer.py",
        "        weight = Weight(quantize(values, qparams, axis), qparams, axis)\n",
        """        if precision != self.config.wide:
            from quant_core.numerics import dequantize
            wide = self.weight(layer.name, self.config.wide)
            values = dequantize(wide.codes, wide.qparams, wide.axis)
        weight = Weight(quantize(values, qparams, axis), qparams, axis)
""",
    ),
    Mutation(
        "wrong axis of a Conv",
        "model/weight_axes.py",
        'if node.op_type in ("Conv", TABLE_OP):\n        return 0',
        'if node.op_type in ("Conv", TABLE_OP):\n        return 1',
    ),
    Mutation(
        "wrong axis of a ConvTranspose",
        "model/weight_axes.py",
        'if node.op_type in ("ConvTranspose", *RECURRENT_OPS):\n        return 1',
        'if node.op_type in ("ConvTranspose", *RECURRENT_OPS):\n        return 0',
    ),
    Mutation("wrong axis of a Gemm with transB", "model/weight_axes.py", "int(not transposed)", "int(transposed)"),
    Mutation("wrong axis of a MatMul", "model/weight_axes.py", "if on_the_left else rank - 1", "if on_the_left else 0"),
    Mutation(
        "boundary pair missing",
        "quantization/plan_graph/plan_pass.py",
        "return carried if wanted in (None, base, DataType.FLOAT32) else self.pair(carried, name, wanted)",
        "return carried",
    ),
    Mutation(
        "boundary pair reads the float value",
        "quantization/plan_graph/plan_pass.py",
        "else self.pair(carried, name, wanted)",
        "else self.pair(self.raw(name), name, wanted)",
    ),
    Mutation(
        "bounds of a Clip taken for values on the grid",
        "quantization/plan_graph/plan_pass.py",
        'if node.op_type in ("Clip", "Pad"):',
        "if False:",
    ),
    Mutation(
        "a tensor is narrow where one reader is",
        "model/edge_types.py",
        "return self.others if self.others in kinds else self.wide",
        "return min(kinds, key=lambda kind: kind.bits)",
    ),
    Mutation("an output of the model is narrow", "model/edge_types.py", "if name in graph.outputs:", "if False:"),
    Mutation(
        "second operand of a product stays wide",
        "model/topology.py",
        "{Role.LAYER: 2,",
        "{Role.LAYER: 1,",
    ),
    Mutation(
        "a computation follows the layer before it",
        "model/edge_types.py",
        "return self.wide if wanted is None else wanted.activations",
        "return min(self.precisions.values(), key=lambda one: one.activations.bits).activations",
    ),
    Mutation(
        "a mover moves wide values",
        "model/edge_types.py",
        "return carried.pop() if len(carried) == 1 else self.others",
        "return self.wide",
    ),
    Mutation(
        "a scale on each side of a mover",
        "calibration/ranges.py",
        "if topology.roles[index] is Role.MOVER:",
        "if False:",
    ),
]


def broken(mutation: Mutation, folder: Path) -> None:
    """Put a mutation into a copy of the source."""
    path = folder / "quant_core" / mutation.file
    text = path.read_text()
    if text.count(mutation.old) != 1:
        sys.exit(f"{mutation.name!r}: {mutation.file} has {text.count(mutation.old)} times: {mutation.old}")
    path.write_text(text.replace(mutation.old, mutation.new))


def failing(folder: Path) -> list[str]:
    """The first tests that fail in a copy of the source."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "--no-header",
        "--tb=no",
        "-rfE",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, f"--maxfail={_SHOWN}", *_TESTS],
        check=False,
        cwd=folder,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    found = re.findall(r"^(?:FAILED|ERROR) (?:tests/quant_core/)?(.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    if done.returncode and not found:
        sys.exit(done.stdout + done.stderr)
    return found


def check(mutation: Mutation | None) -> list[str]:
    """The tests that fail under a mutation, or without any."""
    with tempfile.TemporaryDirectory() as temporary:
        for name in ("quant_core", "tasks", "flows", "tests"):
            shutil.copytree(_ROOT / name, Path(temporary, name), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(_ROOT / "pyproject.toml", temporary)
        if mutation is not None:
            broken(mutation, Path(temporary))
        return failing(Path(temporary))


def main(words: list[str]) -> None:
    """Check the mutations that are asked for."""
    if before := check(None):
        sys.exit(f"without a mutation these fail: {', '.join(before)}")
    survivors = 0
    for mutation in MUTATIONS:
        if words and not any(word in mutation.name for word in words):
            continue
        found = check(mutation)
        survivors += not found
        print(f"| {mutation.name} | {', '.join(found) or '**nothing fails**'} |", flush=True)
    sys.exit(survivors > 0)


if __name__ == "__main__":
    main(sys.argv[1:])
