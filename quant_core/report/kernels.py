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
    """Sentences on what layers run as, on those computed in float, and on other nodes left to the processor."""
    listed = runs_as(manifest)
    found = [one for name, one in listed.items() if name in manifest.plan]
    if not found or manifest.deployed is None:
        return []
    counted = Counter(one.runs_as or "what its graph does not tell" for one in found)
    runs = ", ".join(f"{count} as {name}" for name, count in counted.most_common())
    said = [f"In {manifest.deployed.runtime} layers run so: {runs}."]
    reasons = Counter(one.why for one in found if one.why and not one.is_integer)
    if reasons:
        told = "; ".join(f"{count}: {why}" for why, count in reasons.most_common(_MOST_REASONS))
        said.append(f"{sum(reasons.values())} of {len(found)} are not computed in integers ({told}).")
    if others := sum(name not in manifest.plan and one.runs_as == "CPU" for name, one in listed.items()):
        said.append(f"{others} other {'node is' if others == 1 else 'nodes are'} left to the CPU there.")
    return said
