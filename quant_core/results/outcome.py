"""What a run gives back, and the same read from its output folder again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from quant_core.errors import InputError
from quant_core.manifest import Manifest
from quant_core.precision import PrecisionPlan
from quant_core.report.charts.chart import Chart, charts_of
from quant_core.report.sentences.verdict import is_met, verdict
from quant_core.results.manifest_file import read_manifest
from quant_core.results.output_place import OutputPlace
from quant_core.storage.schemas import (
    CALIBRATION,
    FRONTIER,
    LAYER_LATENCY,
    LAYERS,
    SAMPLES,
    SEARCH,
    SENSITIVITY,
    WEIGHTS,
)
from quant_core.storage.tables import from_ipc

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["OPTIONAL_TABLES", "TABLES", "Outcome", "open_outcome"]

TABLES = {"layers": LAYERS, "calibration": CALIBRATION, "sensitivity": SENSITIVITY, "search": SEARCH}
"""Tables of the output folder, each in a file NAME.arrow, and their schemas."""

OPTIONAL_TABLES = {"samples": SAMPLES, "latency": LAYER_LATENCY, "frontier": FRONTIER, "weights": WEIGHTS}
"""Further ones: the worst samples, where the evaluation data was there; of a run whose cost was latency, what layers
take; of one that kept its frontier, that and the rounded weights."""


@dataclass(frozen=True)
class Outcome:
    """What a run gives back. In a notebook it shows its verdict, scores and charts."""

    folder: Path
    """The output folder."""
    plan: PrecisionPlan
    """Precision of each layer of the shipped model."""
    met: bool
    """Whether the shipped file is within the budget and meets the target on the evaluation data, as far as there is
    one."""
    manifest: Manifest
    """The content of manifest.json."""

    @property
    def model(self) -> Path:
        """The quantized model file."""
        return self.folder / "model.onnx"

    @property
    def report(self) -> Path:
        """The report's page."""
        return self.folder / "report.html"

    def table(self, name: str) -> pa.Table:
        """A table: `layers`, `calibration`, `sensitivity`, `search`, and those of OPTIONAL_TABLES that the run has.

        Raises InputError for another name, and where the file is gone, damaged, of another run or another version.
        """
        known = {**TABLES, **OPTIONAL_TABLES}
        if name not in known:
            raise InputError(f"there is no table {name!r}; there are {', '.join(known)}")
        return _table(self.folder / f"{name}.arrow", known[name], self.manifest.tables.get(name))

    def tables(self) -> dict[str, pa.Table]:
        """Return the tables of the report by name: those that every run has, and of the others those that are there."""
        kept = [name for name in ("samples", "latency", "frontier") if (self.folder / f"{name}.arrow").exists()]
        return {name: self.table(name) for name in [*TABLES, *kept]}

    def to_pandas(self, name: str) -> pd.DataFrame:
        """A table as a pandas DataFrame; pandas must be installed."""
        return self.table(name).to_pandas()

    def to_polars(self, name: str) -> pl.DataFrame:
        """A table as a polars DataFrame; polars must be installed."""
        import polars

        frame: pl.DataFrame = polars.from_arrow(self.table(name))
        return frame

    @property
    def charts(self) -> Mapping[str, Chart]:
        """The report's charts, each an object that a notebook draws and that can be saved as a page."""
        return charts_of(self.manifest, self.tables())

    def _repr_html_(self) -> str:
        from quant_core.report.notebook import outcome_html

        try:
            tables = self.tables()
        except InputError:  # they are gone, or another run's by now: the verdict stands in the manifest
            tables = {}
        return outcome_html(self.manifest, str(self.folder), tables)

    def __str__(self) -> str:
        return f"{verdict(self.manifest)} ({self.folder})"


def open_outcome(folder: str | os.PathLike[str]) -> Outcome:
    """Read a finished run's output folder; raises InputError for a folder that is none."""
    place = OutputPlace.at(folder).fetch()
    manifest = read_manifest(place)
    return Outcome(place, manifest.shipped_plan, is_met(manifest), manifest)


def _table(file: Path, schema: pa.Schema, digest: str | None) -> pa.Table:
    try:
        data = file.read_bytes()
        table = from_ipc(data)
    except FileNotFoundError as error:
        raise InputError(f"{file}: is not there; run `narrowcast auto` again to write it") from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    missing = [field.name for field in schema if field.name not in table.column_names]
    if missing:
        raise InputError(f"{file}: has no column {missing[0]}: another version of narrowcast wrote it; run again")
    if hashlib.sha256(data).hexdigest() != digest:
        raise InputError(f"{file}: is not the table that this run wrote; run again to write it anew")
    return table
