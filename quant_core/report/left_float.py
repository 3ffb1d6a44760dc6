"""What the report says of operators that multiply and are no layers."""

from __future__ import annotations

from quant_core.manifest import Manifest, OtherOperators
from quant_core.report.text import percent

__all__ = ["left_float"]


def left_float(manifest: Manifest) -> list[str]:
    """Sentences on what stays in float or wide in every plan, with its share of the model and the reason."""
    return [_sentence(manifest, found) for found in manifest.narrowed.others]


def _sentence(manifest: Manifest, found: OtherOperators) -> str:
    precision = manifest.wide if found.precision == "wide" else "float"
    stay = "stays" if found.nodes == 1 else "stay"
    if found.macs_share is None:
        share = "how many multiply-accumulates that takes is not known, and no share counts them"
    else:
        share = f"{percent(found.macs_share)} of the multiply-accumulates"
    return f"{found.nodes} {found.op} {stay} in {precision} ({share}): {found.why}."
