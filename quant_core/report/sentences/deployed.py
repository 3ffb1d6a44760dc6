"""What the report says of the runtime that the model was scored in."""

from __future__ import annotations

from quant_core.manifest import Deployed, Manifest
from quant_core.report.text import METRIC_NAMES, metric_text

__all__ = ["deployed"]


def deployed(manifest: Manifest) -> list[str]:
    """Return sentences on where the score was measured, and on where the runtime departs from the Q/DQ pairs."""
    found = manifest.deployed
    if found is None or (not found.differs and not found.assumes):
        return []
    said = [_scope(found)] if found.assumes else []
    if found.differs:
        metric = manifest.target.metric if manifest.target.metric in found.reference else "l2"
        here, there = (metric_text(metric, scores.get(metric)) for scores in (manifest.scores.mixed, found.reference))
        said.append(
            f"In {found.runtime} the {METRIC_NAMES[metric]} is {here}; computed exactly as the Q/DQ pairs say, it is "
            f"{there}. The difference is larger than the choice of samples explains."
        )
        said += [f"{reason[0].upper()}{reason[1:]}." for reason in found.reasons]
    return said


def _scope(found: Deployed) -> str:
    """Say where the score holds."""
    if not found.processor:
        return (
            f"The score is that of the Q/DQ pairs, since {found.runtime} is not run here; "
            f"it assumes that {found.assumes}."
        )
    return f"The score is that of {found.runtime}, and assumes that {found.assumes}."
