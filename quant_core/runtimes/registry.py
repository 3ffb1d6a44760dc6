"""All profiles, by name."""

from __future__ import annotations

from collections.abc import Mapping

from quant_core.errors import InputError
from quant_core.runtimes.profile import RuntimeProfile
from quant_core.runtimes.profiles.onnxruntime import ONNXRUNTIME
from quant_core.runtimes.profiles.onnxruntime_vnni import ONNXRUNTIME_VNNI
from quant_core.runtimes.profiles.onnxruntime_web import ONNXRUNTIME_WEB
from quant_core.runtimes.profiles.openvino import OPENVINO
from quant_core.runtimes.profiles.qnn import QNN
from quant_core.runtimes.profiles.reference import REFERENCE
from quant_core.runtimes.profiles.tensorrt import TENSORRT
from quant_core.runtimes.profiles.tract import TRACT
from quant_core.runtimes.profiles.tvm import TVM
from quant_core.runtimes.profiles.vitisai import VITISAI

__all__ = ["PROFILES", "profile_of"]

PROFILES: Mapping[str, RuntimeProfile] = {
    profile.name: profile
    for profile in (
        ONNXRUNTIME,
        ONNXRUNTIME_VNNI,
        ONNXRUNTIME_WEB,
        OPENVINO,
        QNN,
        VITISAI,
        TENSORRT,
        TRACT,
        TVM,
        REFERENCE,
    )
}
"""The profiles; the first is the default."""


def profile_of(name: str) -> RuntimeProfile:
    """The profile of a runtime; raises InputError for a name that none has."""
    if name not in PROFILES:
        raise InputError(f"runtime {name!r} is not known: there are {', '.join(PROFILES)}")
    return PROFILES[name]
