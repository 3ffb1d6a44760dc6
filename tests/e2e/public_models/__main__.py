"""Models that anybody can get, quantized as a new user would: what is told beside what is true.

    python -m tests.e2e.public_models                 # some minutes
    python -m tests.e2e.public_models nudenet GRU     # those whose name has a word

It needs pip's index, Pillow, scikit-image, scikit-learn, skl2onnx, torch, transformers and espeak-ng. Packages with models
are downloaded at pinned versions and only unzipped. For each model: the multiply-accumulates that are told beside a count
from the shapes of a run, the exit code, what stays in float, the SQNR that is told beside one that is computed here from
both files in default sessions, and what the task makes of it. The table is docs/public-models.md.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.errors import InputError, TargetError
from quant_core.model.other_products import other_products
from quant_core.results.outcome import Outcome
from tests.e2e.public_models.counting import counted_macs
from tests.e2e.public_models.exported import EXPORTED
from tests.e2e.public_models.packaged import PACKAGED
from tests.e2e.public_models.record import Array, Arrays, PublicModel, fed_with, outputs_of, session_of

_TARGET_DB = 20.0


def row_of(public: PublicModel, folder: Path) -> list[str]:
    """Quantize a model; the row of the table."""
    path = public.get(folder)
    arrays = public.data(path)
    config = config_from(target={"metric": "sqnr_db", "limit": _TARGET_DB}, **public.options)
    given = {"calibration": arrays, "evaluation": arrays, "output": folder / "out", "cache": folder / "cache"}
    code = 0
    try:
        outcome = auto_mixed_precision(path, **given, config=config, workers=2)
    except TargetError as missed:
        code, outcome = 3, missed.outcome
    except InputError as refused:
        return [public.name, public.package, "2", "", "", str(refused), "", ""]
    return [public.name, public.package, str(code), *_compared(public, path, arrays, outcome)]


def _compared(public: PublicModel, path: Path, arrays: Arrays, outcome: Outcome) -> list[str]:
    """Return what is told beside what is true."""
    manifest, written = outcome.manifest, outcome.folder / "model.onnx"
    floats, found = (outputs_of(file, arrays, public) for file in (path, written))
    exact, got = (public.pieces(outputs) for outputs in (floats, found))
    true = min(_sqnr(exact[name], got[name]) for name in exact)
    plan = ", ".join(f"{count} {name}" for name, count in Counter(manifest.plan.values()).items())
    plan += f", {len(manifest.float_tensors)} tensors in float" if manifest.float_tensors else ""
    others = ", ".join(f"{other.nodes} {other.op} ({other.why})" for other in manifest.narrowed.others)
    counted = counted_macs(path, fed_with(session_of(path), arrays, public, 0))
    sqnr = f"{manifest.scores.mixed['sqnr_db']:.3f} / {true:.3f}"
    return [f"{_told_macs(outcome):,} / {counted:,}", plan, others or "none", sqnr, public.task(floats, found)]


def _told_macs(outcome: Outcome) -> int:
    """Return the multiply-accumulates of all layers and of what stays in float."""
    layers = outcome.table("layers")
    return sum(layers.column("macs").to_pylist()) + sum(other.macs or 0 for other in other_products(layers))


def _sqnr(one: Array, other: Array) -> float:
    one, other = one.astype(np.float64), other.astype(np.float64)
    return float(10 * np.log10((one**2).sum() / ((one - other) ** 2).sum()))


_HEADINGS = [
    *("model", "package", "exit code", "MACs told / counted", "layers", "other products"),
    *("SQNR told / computed (dB)", "task"),
]


def _print_table(words: list[str]) -> None:
    print(f"| {' | '.join(_HEADINGS)} |")
    print("|" + " --- |" * len(_HEADINGS), flush=True)
    with tempfile.TemporaryDirectory() as place:
        for public in [*PACKAGED, *EXPORTED]:
            if words and not any(word in public.name for word in words):
                continue
            folder = Path(place) / public.name.replace(" ", "-")
            folder.mkdir()
            print(f"| {' | '.join(row_of(public, folder))} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    warnings.simplefilter("ignore")  # exporters have much to say
    parser.add_argument("words", nargs="*", help="parts of names of models")
    _print_table(parser.parse_args().words)
