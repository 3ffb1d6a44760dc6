"""What a run is asked to do, from names of files and folders."""

from __future__ import annotations

from quant_core.config import Config
from quant_core.model.model_file import refer_model
from quant_core.pipeline.study import Request
from quant_core.results.output_place import OutputPlace
from quant_core.storage.references import refer

__all__ = ["request_for"]


def request_for(
    model: str, calibration: str, evaluation: str, holdout: str | None, config: Config, output: str
) -> Request[Config]:
    """Look at every file and take its digest; raises InputError for one that is not there."""
    return Request(
        model=refer_model(model),
        calibration=refer(calibration),
        evaluation=refer(evaluation),
        holdout=None if holdout is None else refer(holdout),
        config=config,
        output=OutputPlace.at(output),
    )
