"""What a model file says of where it comes from: digests of all that its numbers follow from, in its metadata.

Equal samples give equal files, in whatever files or arrays they come: of the calibration data it is the histograms that
are named. The digests of the data themselves, the evaluation data and the target are in the manifest, which has the
digest of the model file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from quant_core.execution.engine_version import engine_version
from quant_core.model.notes import OWN_PREFIX
from quant_core.quantization.recipe import QuantizationRecipe
from quant_core.storage.schemas import CALIBRATION
from quant_core.storage.tables import content_digest, facts

__all__ = ["lineage"]


def lineage(recipe: QuantizationRecipe) -> Mapping[str, str]:
    """Return the entries of the metadata: version, and sha256 of float model, calibration histograms and options."""
    histograms = recipe.calibration.select(CALIBRATION.names).replace_schema_metadata(None)
    options = hashlib.sha256(recipe.config.model_dump_json().encode()).hexdigest()
    known = {
        "version": engine_version(),
        "model_sha256": facts(recipe.layers).get("float"),
        "histograms_sha256": content_digest(histograms).decode(),
        "options_sha256": options,
    }
    return {f"{OWN_PREFIX}{name}": value for name, value in known.items() if value is not None}
