"""From Quark's configuration to the engine's: what to run, and with which settings."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from quant_core.config import LayerWiseConfig, MixedPrecisionConfig, config_from, validated
from quant_core.errors import InputError, UnsupportedError
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import Layer
from quant_core.precision import DataType
from quant_core.quark.accuracy import METRIC, EvaluateFunction
from quant_core.quark.fields import AUTO_MIX_FIELDS, EXTRA_FIELDS, QUANTIZATION_FIELDS, checked
from quant_core.quark.names import (
    CalibrationMethod,
    PowerOfTwoMethod,
    QuantFormat,
    QuantType,
    VitisQuantFormat,
    VitisQuantType,
)

__all__ = ["Config", "QuantizationConfig"]

_SELECTING = ("op_types_to_quantize", "nodes_to_quantize", "nodes_to_exclude")
_NAMING = ("TargetTensors", "TargetIndices", "ExcludeIndices")


class QuantizationConfig:
    """Quark's QuantizationConfig. Its fields are those of `fields.QUANTIZATION_FIELDS`.

    Raises InputError for a field or option that is none or has no meaning beside the others, and UnsupportedError
    (a NotImplementedError) for one that is not built.
    """

    def __init__(self, **given: object) -> None:
        self.fields: dict[str, Any] = checked(given, QUANTIZATION_FIELDS, "QuantizationConfig")
        self.extra: dict[str, Any] = checked(self.fields["extra_options"], EXTRA_FIELDS, "extra_options")
        self.auto: dict[str, Any] = checked(self.extra["AutoMixprecision"], AUTO_MIX_FIELDS, "AutoMixprecision")
        self._check_switch("include_auto_mp", "AutoMixprecision")
        self._check_switch("specific_tensor_precision", "MixedPrecisionTensor")
        if self.fields["include_auto_mp"] and self.fields["specific_tensor_precision"]:
            raise UnsupportedError("specific_tensor_precision beside include_auto_mp is not built; use one of them")
        _check_format(self.fields["quant_format"])
        if self.fields["include_auto_mp"]:
            self._check_auto()
        self.settings()

    def _check_switch(self, switch: str, option: str) -> None:
        """A switch and the option it is about go together."""
        if bool(self.fields[switch]) != bool(self.extra[option]):
            raise InputError(f"{switch}=True and extra_options[{option!r}] go together")

    def _check_auto(self) -> None:
        auto = self.auto
        if not any(auto[name] for name in ("TargetQuantType", "ActTargetQuantType", "WeightTargetQuantType")):
            raise InputError("AutoMixprecision: give ActTargetQuantType, WeightTargetQuantType or TargetQuantType")
        if (auto["Top1AccTarget"] is None) != (auto["EvaluateFunction"] is None):
            raise InputError("AutoMixprecision: Top1AccTarget and EvaluateFunction go together")
        chosen = [name for name in ("L2Target", "Top1AccTarget", *_NAMING) if auto[name] not in (None, (), [])]
        if len(chosen) > 1:
            raise InputError(f"AutoMixprecision: {' and '.join(chosen)} exclude each other; give one")
        if auto["DataSize"] is not None and auto["DataSize"] < 1:
            raise InputError(f"AutoMixprecision: DataSize must be at least 1, not {auto['DataSize']}")
        selected = [name for name in _SELECTING if self.fields[name]]
        if self.searches and selected:
            raise UnsupportedError(f"{selected[0]} beside a target is not built; use TargetOpType")

    @property
    def searches(self) -> bool:
        """Whether a target decides what is narrowed."""
        return self.auto["L2Target"] is not None or self.auto["Top1AccTarget"] is not None

    @property
    def evaluate(self) -> EvaluateFunction | None:
        """The user's accuracy."""
        function: EvaluateFunction | None = self.auto["EvaluateFunction"]
        return function

    def settings(self) -> dict[str, object]:
        """What the engine is told of ranges and types."""
        method = self.fields["calibrate_method"]
        if not isinstance(method, CalibrationMethod | PowerOfTwoMethod):
            raise InputError(f"calibrate_method: {method!r} is neither a CalibrationMethod nor a PowerOfTwoMethod")
        if method is CalibrationMethod.Distribution:
            raise UnsupportedError("calibrate_method=Distribution is not built; use Percentile")
        wide = (self._type("activation_type"), self._type("weight_type"))
        found: dict[str, object] = {
            "wide": _precision(*wide),
            "calibrate": method.value,
            "symmetric": bool(self.extra["ActivationSymmetric"]),
            "per_channel": bool(self.fields["per_channel"]),
            "equalize": bool(self.fields["include_cle"]),
        }
        for option, name in (("Percentile", "percentile"), ("PowerOfTwoRounding", "power_of_two_rounding")):
            if self.extra[option] != EXTRA_FIELDS[option].default:
                found[name] = self.extra[option]
        validated(LayerWiseConfig, found)
        return found

    def _type(self, field: str) -> DataType:
        return data_type(self.fields[field], field)

    def narrow(self) -> tuple[DataType, DataType]:
        """Types of activations and weights of a narrowed layer."""
        auto = self.auto
        if auto["ActTargetQuantType"] is None and auto["WeightTargetQuantType"] is None:
            return data_type(auto["TargetQuantType"], "TargetQuantType"), self._type("weight_type")
        activations, weights = (
            self._type(wide) if auto[name] is None else data_type(auto[name], name)
            for name, wide in (("ActTargetQuantType", "activation_type"), ("WeightTargetQuantType", "weight_type"))
        )
        return activations, weights

    def search(self) -> MixedPrecisionConfig:
        """The configuration of the documented rule: down the ranking, until the target is about to break."""
        top1 = self.auto["Top1AccTarget"]
        target = {"metric": "l2", "limit": self.auto["L2Target"]}
        if top1 is not None:
            target = {"metric": "metric_drop", "limit": top1, "function": METRIC}
        return config_from(
            **self.settings(),
            narrow=(_precision(*self.narrow()),),
            search="linear",
            samples="all",
            layer_ops=tuple(self.auto["TargetOpType"]),
            output=self.auto["OutputIndex"],
            target=target,
        )

    def named(self) -> LayerWiseConfig:
        """The configuration where names decide; every quantized operator can be named then."""
        return validated(LayerWiseConfig, {**self.settings(), "candidates": "all", "output": self.auto["OutputIndex"]})

    def types(self, graph: FloatGraph, layers: Sequence[Layer]) -> dict[str, list[str]]:
        """Which layers and tensors of a prepared model have which type."""
        found: dict[str, list[str]] = {}
        for kind, names in self.extra["MixedPrecisionTensor"].items():
            found.setdefault(str(data_type(kind, "MixedPrecisionTensor")), []).extend(f"tensor:{n}" for n in names)
        left = set(self._left_float(layers))
        if left:
            written = [graph.nodes[at].output[0] for layer in layers if layer.name in left for at in layer.nodes]
            found["float32"] = [f"layer:{name}" for name in sorted(left)]
            found["float32"] += [f"tensor:{name}" for name in written if name in graph.outputs]
        if self.fields["include_auto_mp"]:
            for kind, names in self._narrowed(layers, left).items():
                found.setdefault(kind, []).extend(names)
        return found

    def _left_float(self, layers: Sequence[Layer]) -> list[str]:
        ops, chosen, excluded = (list(self.fields[name]) for name in _SELECTING)
        _check_known("op_types_to_quantize", ops, [layer.op for layer in layers])
        for field, names in (("nodes_to_quantize", chosen), ("nodes_to_exclude", excluded)):
            _check_known(field, names, [layer.name for layer in layers])
        return [
            layer.name
            for layer in layers
            if layer.name in excluded or (ops and layer.op not in ops) or (chosen and layer.name not in chosen)
        ]

    def _narrowed(self, layers: Sequence[Layer], left: set[str]) -> Mapping[str, list[str]]:
        """What AutoMixprecision narrows without a target."""
        activations, weights = self.narrow()
        if self.auto["TargetTensors"]:
            owned = {layer.weight for layer in layers}
            found: dict[str, list[str]] = {}
            for name in self.auto["TargetTensors"]:
                found.setdefault(str(weights if name in owned else activations), []).append(f"tensor:{name}")
            return found
        listed = [layer for layer in layers if layer.op in self.auto["TargetOpType"]]
        positions = self._positions(len(listed))
        names = [f"layer:{listed[at].name}" for at in positions if listed[at].name not in left]
        return {_precision(activations, weights): names} if names else {}

    def _positions(self, count: int) -> list[int]:
        chosen, excluded = list(self.auto["TargetIndices"]), list(self.auto["ExcludeIndices"])
        for position in [*chosen, *excluded]:
            if position not in range(count):
                raise InputError(f"AutoMixprecision: there is no layer {position}; there are {count}, from 0 on")
        if not chosen and not excluded:
            warnings.warn("AutoMixprecision without a target narrows every layer", stacklevel=6)
        return chosen or [position for position in range(count) if position not in excluded]


@dataclass(frozen=True)
class Config:
    """What ModelQuantizer is given."""

    global_quant_config: QuantizationConfig
    """All settings."""


def data_type(value: object, where: str) -> DataType:
    """The engine's type for one of Quark's."""
    if not isinstance(value, QuantType | VitisQuantType):
        raise InputError(f"{where}: {value!r} is neither a QuantType nor a VitisQuantType")
    found: DataType = value.value
    return found


def _precision(activations: DataType, weights: DataType) -> str:
    if activations.is_float or weights.is_float:
        if activations is not weights:
            raise UnsupportedError(f"{activations} activations beside {weights} weights are not built; use one type")
        return str(activations)
    return f"a{activations.code}w{weights.code}"


def _check_format(given: object) -> None:
    if given is QuantFormat.QOperator:
        raise UnsupportedError(
            "quant_format=QOperator is not built; use QDQ, of which ONNX Runtime makes the same kernels itself"
        )
    if given is VitisQuantFormat.FixNeuron:
        raise UnsupportedError("quant_format=FixNeuron is not built; use QDQ")
    if given not in (QuantFormat.QDQ, VitisQuantFormat.QDQ):
        raise InputError(f"quant_format: {given!r} is neither a QuantFormat nor a VitisQuantFormat")


def _check_known(field: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            raise InputError(
                f"{field}: nothing quantized is {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
            )
