"""What the processor of this machine can do that changes what quantized models compute."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

__all__ = ["adds_bytes_in_32_bits", "processor_abilities"]

_DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "avx_vnni_int8", "asimddp", "amx_int8")
"""Instructions that add up products of 8-bit codes in 32 bits, as Linux calls them."""
_X86 = ("x86_64", "AMD64", "i686")


@cache
def processor_abilities() -> tuple[str, ...]:
    """The instructions of _DOT_PRODUCTS that this processor has; empty where the system does not say."""
    try:
        told = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return ()
    flags = next((line.partition(":")[2].split() for line in told if line.startswith(("flags", "Features"))), [])
    return tuple(name for name in _DOT_PRODUCTS if name in flags)


def adds_bytes_in_32_bits() -> bool:
    """Whether sums of products of 8-bit codes cannot saturate here: with VNNI, and on processors other than x86."""
    return platform.machine() not in _X86 or bool(processor_abilities())
