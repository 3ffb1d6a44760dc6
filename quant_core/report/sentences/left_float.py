"""What the report says of what stays in float: operators that multiply and are no layers, and single tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from quant_core.manifest import FloatTensor, Manifest, OtherOperators
from quant_core.report.text import METRIC_NAMES, metric_text, percent

__all__ = ["left_float"]

_SHOWN = 6
"""Layers or tensors that are named in a sentence."""


def left_float(manifest: Manifest) -> Iterator[str]:
    """Yield sentences on what stays in float or wide in every plan, with the reason."""
    yield from (_sentence(manifest, found) for found in manifest.narrowed.others)
    if manifest.narrowed.slow:
        yield _slow(manifest)
    if manifest.float_tensors:
        yield _tensors(manifest)


def _slow(manifest: Manifest) -> str:
    found = manifest.narrowed.slow
    stay = "1 layer stays" if len(found) == 1 else f"{len(found)} layers stay"
    named = [f"{name} ({why})" for name, why in islice(found.items(), _SHOWN)]
    return (
        f"{stay} in {manifest.wide} because the runtime would be slower in 8 bits: {_listed(named, len(found))}. With "
        f"another --cost or a budget the search may narrow {'it' if len(found) == 1 else 'them'}."
    )


def _listed(named: Sequence[str], count: int) -> str:
    rest = [f"{count - len(named)} more, which the manifest names"] if count > len(named) else []
    return ", ".join([*named, *rest])


def _tensors(manifest: Manifest) -> str:
    found, metric = manifest.float_tensors, manifest.target.metric
    stay = "1 tensor stays" if len(found) == 1 else f"{len(found)} tensors stay"
    wide = metric_text(metric, manifest.scores.wide.get(metric))
    named = [f"{tensor.name} ({_loss(tensor)})" for tensor in found[:_SHOWN]]
    return (
        f"{stay} in float because with every tensor quantized at {manifest.wide} the {METRIC_NAMES[metric]} is {wide}. "
        f"Share of the loss when tensors are quantized one at a time: {_listed(named, len(found))}."
    )


def _loss(tensor: FloatTensor) -> str:
    return "an output that is not finite" if tensor.share is None else percent(tensor.share, 1)


def _sentence(manifest: Manifest, found: OtherOperators) -> str:
    precision = manifest.wide if found.precision == "wide" else "float"
    stay = "stays" if found.nodes == 1 else "stay"
    if found.macs_share is None:
        share = "an unknown number of multiply-accumulates, which no share counts"
    else:
        share = f"{percent(found.macs_share)} of the multiply-accumulates"
    return f"{found.nodes} {found.op} {stay} in {precision} ({share}): {found.why}."
