"""What a run is asked to do, by reference: models and data never travel as arguments."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from typing_extensions import TypeVar

from quant_core.assignments.assignment import Assignment
from quant_core.config import MixedPrecisionConfig, RunConfig
from quant_core.model.model_file import refer_model
from quant_core.results.output_place import OutputPlace
from quant_core.storage.data import DataSource, refer_data
from quant_core.storage.references import Reference

__all__ = ["QuantizationJob"]

Config_co = TypeVar("Config_co", bound=RunConfig, default=MixedPrecisionConfig, covariant=True)


@dataclass(frozen=True)
class QuantizationJob(Generic[Config_co]):
    """What a run is asked to do."""

    model: Reference
    """The float model."""
    calibration: Reference
    """Data that ranges are chosen from."""
    evaluation: Reference
    """Data that layers are ranked and plans accepted on."""
    holdout: Reference | None
    """Data that only the finished model is measured on."""
    config: Config_co
    """Every option."""
    output: OutputPlace
    """The folder that receives the result."""
    assignment: Assignment | None = None
    """The plan that the user has chosen; None where it is searched for."""

    @classmethod
    def of(
        cls,
        model: str | os.PathLike[str],
        calibration: DataSource,
        evaluation: DataSource,
        holdout: DataSource | None,
        config: Config_co,  # type: ignore[misc] # a constructor may take what it makes an object of
        output: str | os.PathLike[str],
        cache: Path,
        assignment: Assignment | None = None,
    ) -> QuantizationJob[Config_co]:
        """Take the digest of everything a caller gives.

        Args:
            model: path or URL of the float model.
            calibration: a path or URL, arrays by input name, or a CalibrationDataReader.
            evaluation: likewise; may be the same object.
            holdout: likewise, or None.
            config: every option.
            output: folder or URL of the result.
            cache: folder that receives data that are only in memory.
            assignment: the plan that the user has chosen, or None.

        Raises InputError for a file that is not there or cannot be read.

        """
        first = refer_data(calibration, cache)
        return cls(
            model=refer_model(model),
            calibration=first,
            # A reader hands out its batches once.
            evaluation=first if evaluation is calibration else refer_data(evaluation, cache),
            holdout=None if holdout is None else refer_data(holdout, cache),
            config=config,
            output=OutputPlace.at(output),
            assignment=assignment,
        )
