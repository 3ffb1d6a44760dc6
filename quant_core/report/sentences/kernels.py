"""What the report says of the kernels that layers run as in their runtime."""

from __future__ import annotations

from collections import Counter

from quant_core.manifest import LayerRun, Manifest

__all__ = ["kernels", "runs_as"]

_MOST_REASONS = 3


def runs_as(manifest: Manifest) -> dict[str, LayerRun]:
    """Return what each layer runs as, by its name; empty where the runtime is not run here."""
    return {} if manifest.deployed is None else {one.layer: one for one in manifest.deployed.layers}


def kernels(manifest: Manifest) -> list[str]:
    """Return sentences on the kernels of layers, on layers computed in float, and on other nodes left to the CPU."""
    listed = runs_as(manifest)
    found = [one for name, one in listed.items() if name in manifest.plan]
    if not found or manifest.deployed is None:
        return []
    counted = Counter(one.runs_as or "unknown" for one in found)
    runs = ", ".join(f"{name} ({count})" for name, count in counted.most_common())
    said = [f"Layers run in {manifest.deployed.runtime} as {runs}."]
    reasons = Counter(one.why for one in found if one.why and not one.is_integer)
    if reasons:
        told = "; ".join(f"{why} ({count})" for why, count in reasons.most_common(_MOST_REASONS))
        count = reasons.total()
        said.append(f"{count} of {len(found)} layers {'is' if count == 1 else 'are'} not computed in integers: {told}.")
    if others := sum(name not in manifest.plan and one.runs_as == "CPU" for name, one in listed.items()):
        said.append(f"{others} other {'node is' if others == 1 else 'nodes are'} left to the CPU there.")
    return said
