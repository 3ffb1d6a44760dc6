"""Quark's ModelQuantizer: runs the engine and leaves one file."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import onnx

from quant_core.errors import InputError, UnsupportedError
from quant_core.execution.machine import Machine
from quant_core.model.layers import layers_from_table
from quant_core.model.model_file import refer_model
from quant_core.model.preparation.prepare import prepare
from quant_core.model.prepared_model import prepared_graph
from quant_core.pipeline.auto import auto_mixed_precision
from quant_core.pipeline.layer_wise import layer_wise
from quant_core.quark.accuracy import evaluating
from quant_core.quark.readers import Items, first_samples, read_items, read_path, replayed, size
from quant_core.quark.selection import left_in_float
from quant_core.quark.translation import Config
from quant_core.results.outcome import Outcome
from quant_core.storage.references import atomic_copy

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
        calibration_data_path: str | os.PathLike[str] | None = None,
        algorithms: Sequence[object] | None = None,
    ) -> onnx.ModelProto | None:
        """Write the quantized model to `model_output`; return it where no path is given.

        Calibration data are a reader's, or those at a path or URL (a folder of .npy or .npz, a file).
        Raises InputError for unusable input and TargetError when the wide model misses the target already; nothing
        is written then.
        """
        if algorithms:
            raise UnsupportedError(
                "quantize_model: algorithms are not supported; use include_cle and include_auto_mp of "
                "QuantizationConfig"
            )
        with tempfile.TemporaryDirectory() as temporary, self._warnings():
            folder = Path(temporary)
            items = _items(calibration_data_reader, calibration_data_path, folder)
            outcome = self._run(_model_file(model_input, folder), items, folder)
            if self.config.fields["print_summary"]:
                print(str(outcome).removesuffix(f" ({outcome.folder})"))
            if model_output is None:
                return onnx.load(outcome.model)
            _write(outcome, Path(model_output), bool(self.config.fields["use_external_data_format"]))
            return None

    @contextmanager
    def _warnings(self) -> Iterator[None]:
        """Silence warnings, all but those of AutoMixprecision, if that is asked for."""
        with warnings.catch_warnings():
            if self.config.fields["ignore_warnings"]:
                warnings.simplefilter("ignore")
                warnings.filterwarnings("default", message="AutoMixprecision")
            yield

    def _run(self, model: Path, items: Items, folder: Path) -> Outcome:
        config, cache = self.config, folder / "cache"
        scored = first_samples(items, config.auto["DataSize"])
        table = prepare(refer_model(model), machine=Machine(cache), **config.named().preparation())
        graph, layers = prepared_graph(table, cache), layers_from_table(table)
        left = left_in_float(config.fields, graph, layers)
        given: dict[str, Any] = {
            "calibration": replayed(first_samples(items, config.extra["CalibDataSize"])),
            "evaluation": replayed(scored),
            "output": folder / "out",
            "cache": cache,
        }
        if not config.searches:
            return layer_wise(model, tensors=config.types(left, layers, graph), config=config.named(left), **given)
        sizes = [size(item) for item in scored]
        with nullcontext() if config.evaluate is None else evaluating(config.evaluate, sizes):
            return auto_mixed_precision(model, config=config.search(left, layers, graph), **given)


def _items(reader: Any, path: str | os.PathLike[str] | None, folder: Path) -> Items:
    if path is None:
        return read_items(reader)
    if reader is not None:
        raise InputError("quantize_model: calibration_data_reader and calibration_data_path exclude each other")
    return read_path(path, folder / "cache")


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
