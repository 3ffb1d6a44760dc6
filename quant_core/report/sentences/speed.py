"""What the report says of how fast the models are, where that was measured."""

from __future__ import annotations

from quant_core.manifest import Manifest
from quant_core.runtimes.faster import is_as_fast
from quant_core.runtimes.registry import profile_of

__all__ = ["speed"]


def speed(manifest: Manifest) -> list[str]:
    """Sentences on what a sample takes, and on what would be faster; none where nothing was timed."""
    found = [_asked(manifest) or _in_passing(manifest)]
    if manifest.deployed is not None and manifest.deployed.faster:
        found.append(f"A faster choice: {manifest.deployed.faster}.")
    return list(filter(None, found))


def _asked(manifest: Manifest) -> str:
    """Say what the float, the wide and the shipped model take, where they were to be timed."""
    found = manifest.latency
    if found is None:
        return ""
    threads = "thread" if found.threads == 1 else "threads"
    here = f"In {_program(manifest)}, on {found.threads} {threads} of the machine that ran this,"
    where = here if found.timer is None else f"As timed by {found.timer},"
    predicted = "" if found.predicted is None else f"; the search expected {found.predicted:.3g} ms"
    taken = f"{found.mixed:.3g} ms{_in_batches(found.batch)}"
    return (
        f"{where} {_pass(manifest)} takes {taken}, {_compared(found.speedup)} the float model ({found.float:.3g} ms) "
        f"and {found.wide:.3g} ms with all layers at {manifest.wide}{predicted}."
    )


def _in_passing(manifest: Manifest) -> str:
    """Say what the float and the shipped model take, as measured for a moment."""
    found = None if manifest.deployed is None else manifest.deployed.pace
    if found is None or not found.mixed:
        return ""
    alike = is_as_fast(found.mixed, found.float)
    compared = "about as fast as" if alike else _compared(found.float / found.mixed)
    taken = f"{found.mixed:.3g} ms{_in_batches(found.batch)}"
    return (
        f"In {_program(manifest)}, on 1 thread of the machine that ran this, {_pass(manifest)} takes {taken}, "
        f"{compared} the float model ({found.float:.3g} ms); this was timed only briefly."
    )


def _pass(manifest: Manifest) -> str:
    return "a step of a sample" if manifest.config.get("states") else "a sample"


def _in_batches(size: int) -> str:
    return "" if size == 1 else f" in batches of {size}"


def _compared(factor: float) -> str:
    return f"{factor:.2f} times as fast as" if factor >= 1 else f"{1 / factor:.2f} times as long as"


def _program(manifest: Manifest) -> str:
    return profile_of(str(manifest.config.get("runtime", "onnxruntime"))).package or "ONNX Runtime"
