"""From Quark's configuration to the engine's: what to run, and with which settings."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quant_core.config import LayerWiseConfig, MixedPrecisionConfig, config_from, validated
from quant_core.errors import InputError, UnsupportedError
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import Layer
from quant_core.model.operators import PRODUCT_OPS
from quant_core.model.sessions import check_providers
from quant_core.precision import DataType, Precision
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
from quant_core.quark.selection import check_op_types, quantized_name, shares_its_input

__all__ = ["Config", "QuantizationConfig"]

_NAMING = ("TargetTensors", "TargetIndices", "ExcludeIndices")
_NOTHING: tuple[object, ...] = (None, (), [], 0)


class QuantizationConfig:
    """Quark's QuantizationConfig. Its fields are those of `fields.QUANTIZATION_FIELDS`.

    Raises InputError for a field or option that is none or has no meaning beside the others, and UnsupportedError
    (a NotImplementedError) for one that is not supported.
    """

    def __init__(self, **given: object) -> None:
        self.fields: dict[str, Any] = checked(given, QUANTIZATION_FIELDS, "QuantizationConfig")
        self.extra: dict[str, Any] = checked(self.fields["extra_options"], EXTRA_FIELDS, "extra_options")
        self.auto: dict[str, Any] = checked(self.extra["AutoMixprecision"], AUTO_MIX_FIELDS, "AutoMixprecision")
        self._check_switch("include_auto_mp", "AutoMixprecision")
        self._check_switch("specific_tensor_precision", "MixedPrecisionTensor")
        if self.fields["include_auto_mp"] and self.fields["specific_tensor_precision"]:
            raise UnsupportedError("specific_tensor_precision beside include_auto_mp is not supported; use one of them")
        _check_format(self.fields["quant_format"])
        self._check_integer()
        check_op_types(self.fields)
        check_providers(self.fields["execution_providers"])
        _check_count("extra_options: CalibDataSize", self.extra["CalibDataSize"])
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
        limits = [name for name in ("L2Target", "Top1AccTarget") if auto[name] is not None]
        chosen = limits + [name for name in ("NumTarget", *_NAMING) if auto[name] not in _NOTHING]
        if len(chosen) > 1:
            raise InputError(f"AutoMixprecision: {' and '.join(chosen)} exclude each other; give one")
        if auto["TargetTensors"] and auto["DualQuantNodes"]:
            raise InputError("AutoMixprecision: TargetTensors and DualQuantNodes exclude each other; give one")
        _check_count("AutoMixprecision: DataSize", auto["DataSize"])
        _check_count("AutoMixprecision: NumTarget", auto["NumTarget"] or None)
        unknown = sorted(set(auto["TargetOpType"]).difference(PRODUCT_OPS))
        if unknown:
            raise UnsupportedError(
                f"AutoMixprecision: TargetOpType {unknown[0]!r} has no weights to narrow; "
                f"use {', '.join(PRODUCT_OPS)}, or quant_core with candidates='all'"
            )

    def _check_integer(self) -> None:
        """Integer operators exist for 8-bit types alone."""
        if self.fields["quant_format"] is QuantFormat.QOperator:
            for where in ("activation_type", "weight_type"):
                if self._type(where) not in (DataType.INT8, DataType.UINT8):
                    raise UnsupportedError(
                        f"quant_format=QOperator: ONNX Runtime has integer operators for 8-bit types only, not for "
                        f"{where}={self._type(where)}; use QDQ"
                    )

    @property
    def searches(self) -> bool:
        """Whether a ranking of layers decides what is narrowed."""
        return any(self.auto[name] is not None for name in ("L2Target", "Top1AccTarget")) or self.auto["NumTarget"] > 0

    @property
    def evaluate(self) -> EvaluateFunction | None:
        """The user's accuracy."""
        function: EvaluateFunction | None = self.auto["EvaluateFunction"]
        return function

    def settings(self) -> dict[str, object]:
        """Return the engine's options for ranges and types."""
        method = self.fields["calibrate_method"]
        if not isinstance(method, CalibrationMethod | PowerOfTwoMethod):
            raise InputError(f"calibrate_method: {method!r} is neither a CalibrationMethod nor a PowerOfTwoMethod")
        if method is CalibrationMethod.Distribution:
            raise UnsupportedError("calibrate_method=Distribution is not supported; use Percentile")
        wide = (self._type("activation_type"), self._type("weight_type"))
        found: dict[str, object] = {
            "wide": _precision(*wide),
            "calibrate": method.value,
            "symmetric": bool(self.extra["ActivationSymmetric"]),
            "per_channel": bool(self.fields["per_channel"]),
            "equalize": bool(self.fields["include_cle"]),
            "optimize": bool(self.fields["optimize_model"]),
            "providers": tuple(self.fields["execution_providers"]),
            "format": "qoperator" if self.fields["quant_format"] is QuantFormat.QOperator else "qdq",
            "biases": self._biases(),
            "dual_pairs": bool(self.auto["DualQuantNodes"]),
            "runtime": "reference",  # compilers of NPUs keep to what the pairs say, in the types that were asked for
        }
        for option, name in (("Percentile", "percentile"), ("PowerOfTwoRounding", "power_of_two_rounding")):
            if self.extra[option] != EXTRA_FIELDS[option].default:
                found[name] = self.extra[option]
        validated(LayerWiseConfig, found)
        return found

    def _biases(self) -> str:
        """Return which biases have the type of their weights."""
        everywhere, given = "int32" if self.extra["Int32Bias"] else "as-weights", self.auto["BiasTargetQuantType"]
        if given is None:
            return everywhere
        allowed = [self.narrow()[1], *([DataType.INT32] if everywhere == "int32" else [])]
        chosen = data_type(given, "BiasTargetQuantType")
        if chosen not in allowed:
            raise InputError(
                f"AutoMixprecision: BiasTargetQuantType must be the type of the weights ({allowed[0]})"
                f"{' or int32' if len(allowed) > 1 else ''}, not {chosen}"
            )
        return everywhere if chosen is DataType.INT32 or everywhere == "as-weights" else "narrow-as-weights"

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

    def search(self, left: Sequence[str], layers: Sequence[Layer], graph: FloatGraph) -> MixedPrecisionConfig:
        """The configuration of the documented rule: down the ranking, until the target is about to break.

        `left` are the nodes that stay in float, `layers` all that is quantized without them.
        """
        auto, ops = self.auto, [op for op in PRODUCT_OPS if op in self.auto["TargetOpType"]]
        target = {"metric": "l2", "limit": auto["L2Target"]}
        if auto["Top1AccTarget"] is not None:
            target = {"metric": "metric_drop", "limit": auto["Top1AccTarget"], "function": METRIC}
        listed = {quantized_name(layer, graph, left): layer for layer in layers if layer.op in ops}
        wide = [name for name, layer in listed.items() if name is not None and self._skips(layer, graph)]
        return config_from(
            **self.settings(),
            narrow=(_precision(*self.narrow()),),
            lift="none",  # there, no layer is wider than the wide model's
            float_tensors=False,
            search="bisect" if auto["NumTarget"] else "linear",
            most_layers=auto["NumTarget"] or None,
            rank="l2-float",
            samples="all",
            layer_ops=tuple(ops),
            exclude=tuple(left),
            keep_wide=tuple(wide),
            output=auto["OutputIndex"],
            target=target,
        )

    def _skips(self, layer: Layer, graph: FloatGraph) -> bool:
        return bool(self.auto["NoInputQDQShared"]) and shares_its_input(layer, graph)

    def named(self, left: Sequence[str] = ()) -> LayerWiseConfig:
        """The configuration where names decide; every quantized operator can be named then."""
        settings = {**self.settings(), "exclude": tuple(left), "candidates": "all"}
        return validated(LayerWiseConfig, {**settings, "output": self.auto["OutputIndex"]})

    def types(self, left: Sequence[str], layers: Sequence[Layer], graph: FloatGraph) -> dict[str, list[str]]:
        """Return names of layers and tensors by type; the arguments are those of `search`."""
        found: dict[str, list[str]] = {}
        for kind, names in self.extra["MixedPrecisionTensor"].items():
            found.setdefault(str(data_type(kind, "MixedPrecisionTensor")), []).extend(f"tensor:{n}" for n in names)
        if self.fields["include_auto_mp"]:
            found |= self._narrowed(left, layers, graph)
        return found

    def _narrowed(self, left: Sequence[str], layers: Sequence[Layer], graph: FloatGraph) -> dict[str, list[str]]:
        """Return what AutoMixprecision narrows without a target."""
        activations, weights = self.narrow()
        if self.auto["TargetTensors"]:
            owned = {weight for layer in layers for weight in layer.weights}
            found: dict[str, list[str]] = {}
            for name in self.auto["TargetTensors"]:
                found.setdefault(str(weights if name in owned else activations), []).append(f"tensor:{name}")
            return found
        listed = [layer for layer in layers if layer.op in self.auto["TargetOpType"]]
        chosen = [listed[at] for at in self._positions(len(listed)) if not self._skips(listed[at], graph)]
        names = [name for layer in chosen if (name := quantized_name(layer, graph, left)) is not None]
        return {_precision(activations, weights): [f"layer:{name}" for name in names]} if names else {}

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
    if weights.is_float and activations is not weights:
        raise UnsupportedError(f"{activations} activations beside {weights} weights are not supported; use one type")
    return str(Precision(activations, weights))


def _check_format(given: object) -> None:
    if given is VitisQuantFormat.FixNeuron:
        raise UnsupportedError("quant_format=FixNeuron is not supported; use QDQ")
    if given not in (*QuantFormat, VitisQuantFormat.QDQ):
        raise InputError(f"quant_format: {given!r} is neither a QuantFormat nor a VitisQuantFormat")


def _check_count(where: str, given: object) -> None:
    if given is not None and (not isinstance(given, int) or given < 1):
        raise InputError(f"{where} must be a number of at least 1, not {given!r}")
