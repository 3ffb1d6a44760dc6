"""What the report says of how fast the models are, where that was measured."""

from __future__ import annotations

from quant_core.manifest import Manifest

__all__ = ["speed"]


def speed(manifest: Manifest) -> str:
    """A sentence on what a sample takes; empty where nothing was timed."""
    found = manifest.latency
    if found is None:
        return ""
    factor = found.speedup
    verdict = f"{factor:.2f} times as fast as" if factor >= 1 else f"{1 / factor:.2f} times slower than"
    threads = "thread" if found.threads == 1 else "threads"
    return (
        f"In ONNX Runtime on {found.threads} {threads} where this ran, a sample takes {found.mixed:.3g} ms: "
        f"{verdict} the float model ({found.float:.3g} ms); all {manifest.wide} takes {found.wide:.3g} ms."
    )
