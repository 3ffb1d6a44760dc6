"""What a run is asked to do, by reference: models and data never travel as arguments."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from typing_extensions import TypeVar

from quant_core.assignments.assignment import Assignment
from quant_core.config import MixedPrecisionConfig, RunConfig
from quant_core.model.model_file import refer_model
from quant_core.pipeline.given_data import check_used, data_form
from quant_core.results.output_place import OutputPlace
from quant_core.storage.data import DataSource, refer_data
from quant_core.storage.data_forms import RandomForm
from quant_core.storage.references import Reference

__all__ = ["Config_co", "QuantizationJob"]

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

    @property
    def random_data(self) -> tuple[str, ...]:
        """The roles whose data are random samples: nothing is known of the model's accuracy then."""
        data = {"calibration": self.calibration, "evaluation": self.evaluation, "holdout": self.holdout}
        return tuple(name for name, given in data.items() if given and isinstance(given.form, RandomForm))

    @property
    def preparation(self) -> dict[str, Any]:
        """The arguments of the stage that prepares the model."""
        arguments = self.config.preparation()
        if self.assignment is not None:
            arguments["opset"] = max(arguments["opset"], self.assignment.first_opset)
        return {"model": self.model, "data": self.calibration, "random_data": self.random_data, **arguments}

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
            calibration: a path or URL, `random`, arrays by input name, or a CalibrationDataReader.
            evaluation: likewise; may be the same object.
            holdout: likewise, or None.
            config: every option.
            output: folder or URL of the result.
            cache: folder that receives data that are only in memory.
            assignment: the plan that the user has chosen, or None.

        Raises InputError for a file that is not there or cannot be read, and for data that are not made to the
        measure of the model.

        """
        float_model = refer_model(model)
        sources = (calibration, evaluation, holdout)
        forms = [data_form(float_model, source, config, seed, cache) for seed, source in enumerate(sources)]
        check_used(forms, config)
        first = refer_data(calibration, cache, forms[0], "calibration")
        # A reader hands out its batches once.
        same = evaluation is calibration and not isinstance(forms[1], RandomForm)
        return cls(
            model=float_model,
            calibration=first,
            evaluation=first if same else refer_data(evaluation, cache, forms[1], "evaluation"),
            holdout=None if holdout is None else refer_data(holdout, cache, forms[2], "holdout"),
            config=config,
            output=OutputPlace.at(output),
            assignment=assignment,
        )
