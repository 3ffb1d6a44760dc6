"""Quark's ModelQuantizer: runs the engine and leaves one file."""

from __future__ import annotations

import os
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import onnx

from quant_core.auto import auto_mixed_precision
from quant_core.errors import InputError, UnsupportedError
from quant_core.execution.machine import Machine
from quant_core.layer_wise import layer_wise
from quant_core.model.layers import layers_from_table
from quant_core.model.model_file import refer_model
from quant_core.model.prepare import prepare, prepared_graph
from quant_core.quark.accuracy import evaluating
from quant_core.quark.readers import Items, first_samples, read_items, replayed, size
from quant_core.quark.translation import Config, QuantizationConfig
from quant_core.results.outcome import Outcome
from quant_core.storage.references import atomic_copy
from quant_core.storage.tables import facts

__all__ = ["ModelQuantizer"]


class ModelQuantizer:
    """Quantizes models as a configuration says."""

    def __init__(self, config: Config) -> None:
        if not isinstance(config, Config):
            raise InputError(f"ModelQuantizer takes a Config, not a {type(config).__name__}")
        self.config = config.global_quant_config

    def quantize_model(
        self,
        model_input: str | os.PathLike[str] | onnx.ModelProto,
        model_output: str | os.PathLike[str] | None = None,
        calibration_data_reader: Any = None,
    ) -> onnx.ModelProto | None:
        """Write the quantized model to `model_output`; return it where no path is given.

        Raises InputError for unusable input and TargetError when the wide model misses the target already; nothing
        is written then.
        """
        items = read_items(calibration_data_reader)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            outcome = self._run(_model_file(model_input, folder), items, folder)
            if self.config.fields["print_summary"]:
                print(str(outcome).removesuffix(f" ({outcome.folder})"))
            if model_output is None:
                return onnx.load(outcome.model)
            _write(outcome, Path(model_output), bool(self.config.fields["use_external_data_format"]))
            return None

    def _run(self, model: Path, items: Items, folder: Path) -> Outcome:
        config = self.config
        given: dict[str, Any] = {"calibration": replayed(items), "output": folder / "out", "cache": folder / "cache"}
        if not config.searches:
            return layer_wise(model, tensors=_types(config, model, folder), config=config.named(), **given)
        scored = first_samples(items, config.auto["DataSize"])
        sizes = [size(item) for item in scored]
        with nullcontext() if config.evaluate is None else evaluating(config.evaluate, sizes):
            return auto_mixed_precision(model, evaluation=replayed(scored), config=config.search(), **given)


def _types(config: QuantizationConfig, model: Path, folder: Path) -> dict[str, list[str]]:
    settings = config.named()
    table = prepare(refer_model(model), settings.candidate_ops, Machine(folder / "cache"), settings.equalize)
    return config.types(prepared_graph(facts(table)["prepared"], folder / "cache"), layers_from_table(table))


def _model_file(model: str | os.PathLike[str] | onnx.ModelProto, folder: Path) -> Path:
    if not isinstance(model, onnx.ModelProto):
        return Path(model)
    onnx.save(model, folder / "float.onnx")
    return folder / "float.onnx"


def _write(outcome: Outcome, path: Path, external: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if external:
        place = f"{path.name}.data"
        path.with_name(place).unlink(missing_ok=True)  # onnx appends
        onnx.save(onnx.load(outcome.model), path, save_as_external_data=True, location=place, size_threshold=0)
    elif len(list(outcome.folder.glob("model.onnx*"))) > 1:
        raise UnsupportedError("the model is too large for one file; use use_external_data_format=True")
    else:
        atomic_copy(outcome.model, path)
