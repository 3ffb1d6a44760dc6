"""What the report says of how fast the models are, where that was measured."""

from __future__ import annotations

from quant_core.manifest import Manifest
from quant_core.runtimes.registry import profile_of

__all__ = ["speed"]


def speed(manifest: Manifest) -> str:
    """A sentence on what a sample takes; empty where nothing was timed."""
    found = manifest.latency
    if found is None:
        return ""
    factor = found.speedup
    verdict = f"{factor:.2f} times as fast as" if factor >= 1 else f"{1 / factor:.2f} times slower than"
    threads = "thread" if found.threads == 1 else "threads"
    program = profile_of(str(manifest.config.get("runtime", "onnxruntime"))).package or "ONNX Runtime"
    where = f"In {program} on {found.threads} {threads} where this ran," if found.timer is None else ""
    where = where or f"As timed by {found.timer},"
    predicted = "" if found.predicted is None else f", and the search took it for {found.predicted:.3g} ms"
    return (
        f"{where} a sample takes {found.mixed:.3g} ms: {verdict} the float model ({found.float:.3g} ms); all "
        f"{manifest.wide} takes {found.wide:.3g} ms{predicted}."
    )
