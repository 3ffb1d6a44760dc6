"""What a runtime asks of a quantized model, as one frozen record a runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from quant_core.config.runtimes import RECURRENT_LAYERS, RECURRENT_WEIGHTS_ALONE, RUNTIME_DEFAULTS
from quant_core.errors import InputError
from quant_core.model.graph import FloatGraph
from quant_core.model.layers import Layer
from quant_core.model.operators import RECURRENT_OPS
from quant_core.model.sessions import OpenModel, open_file
from quant_core.precision import DataType, Precision
from quant_core.runtimes.encoded_tensors import EncodedTensor
from quant_core.runtimes.kernels import LayerKernel
from quant_core.runtimes.processor import processor_name
from quant_core.runtimes.written_model import WrittenModel

__all__ = ["Consequence", "Finding", "PrecisionOption", "Rule", "RuntimeProfile"]

Consequence = Literal["refused", "differs", "slow"]
"""What a runtime does with a node that breaks a rule: does not run it, computes something else, or runs it slowly."""

PrecisionOption = Literal["wide", "narrow", "lift"]
"""Options that name precisions."""


@dataclass(frozen=True)
class Finding:
    """A node of a written file that breaks a rule."""

    node: str
    """Name of the node."""
    rule: str
    """Name of the rule."""
    consequence: Consequence
    """What the runtime does with it."""
    message: str
    """What is wrong with this node, in a few words."""


@dataclass(frozen=True)
class Rule:
    """Something that a runtime asks of a file."""

    name: str
    """In a few words with hyphens."""
    consequence: Consequence
    """What happens to a node that breaks it."""
    text: str
    """The rule in a sentence, for the documentation."""
    broken_by: Callable[[WrittenModel], Iterable[tuple[str, str]]]
    """The nodes of a file that break it, each with what is wrong there."""

    def findings(self, model: WrittenModel) -> list[Finding]:
        """Return what breaks the rule in a file."""
        return [Finding(node, self.name, self.consequence, message) for node, message in self.broken_by(model)]


@dataclass(frozen=True)
class RuntimeProfile:
    """A runtime: what it takes, how it opens a file, and what it makes of the numbers."""

    name: str
    """As in `--runtime`."""
    title: str
    """What it is, in one line."""
    assumes: str
    """What must hold on the machine where the model is deployed, for the score to hold there too; empty: nothing."""
    activations: frozenset[DataType]
    """Integer types that what a layer reads may have."""
    weights: frozenset[DataType]
    """Integer types that weights may have."""
    rules: tuple[Rule, ...]
    """What a file must keep to."""
    weights_alone: frozenset[DataType]
    """Integer types that weights may have beside what stays float."""
    numbers: str
    """What is fused, and what that does to numbers, for the documentation."""
    opens: Callable[[Path], OpenModel] | None = None
    """Opens a file as an application does there; None: it is not run here, but scored as its pairs say."""
    kernels: Callable[[Path], list[LayerKernel]] | None = None
    """Says what the layers of a file run as there; None: not known."""
    is_simulator: bool = False
    """Whether what runs it here only computes what a device does, in times of its own."""
    package: str = ""
    """The distribution that runs it here, where narrowcast does not need that anyway."""
    options: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    """Values that an option of a run may have for it, by the option's name; the first is what to say."""
    newest_opset: int | None = None
    """The last opset that its compiler takes of a model whose pairs are ONNX Runtime's own; None: it takes all."""
    rules_elsewhere: tuple[Rule, ...] = ()
    """What a file must keep to where `assumes` does not hold."""
    has_value_info: bool = True
    """Whether files declare tensors inside their graphs."""
    session_entries: Mapping[str, str] = field(default_factory=dict)
    """Options of the session or provider that an application has to set."""
    beside: Mapping[str, Callable[[Mapping[str, Sequence[EncodedTensor]]], object]] = field(default_factory=dict)
    """Files that its own tools want beside the model: how tensors are held (see `encoded_tensors`) as JSON, by name."""
    weights_beside_bytes: frozenset[DataType] | None = None
    """Integer types that weights may have beside 8-bit activations; None: all that it has."""
    takes_zero_points_of_weights: bool = True
    """Whether weights beside floats may have zero points that are not 0."""
    takes_part_of_a_block: bool = True
    """Whether the last block of inputs may be shorter; where not, weights that have such have a scale a channel."""
    looks_up_codes: bool = True
    """Whether a table's rows are looked up as codes with their scales, and those alone dequantized; where not, the
    whole table is: rows are blocks, and their number is open."""
    shares_weights: bool = True
    """Whether several nodes may read one stored weight; where not, each has a copy."""
    keeps_byte_sums_in_range: bool = False
    """Whether weights are written so that sums of 8-bit products cannot saturate in 16 bits."""
    keeps_matmuls_apart: bool = False
    """Whether products are written so that a float or 16-bit operand is not rounded to 8 bits by a fusion."""
    rounds_float_weights: bool = False
    """Whether weights of float layers between pairs would be rounded to int8, were they not written in another form.
    Then float biases of quantized layers are rounded, too: to int32, at the scale of input times weight."""
    slower_in_8_bits: Callable[[FloatGraph, Layer, str], str] | None = None
    """Says of a layer, in a file of a form (`--format`), why it is slower in 8 bits than in float, empty where it is
    not; None: not known."""
    has_one_scale_beside_states: bool = False
    """Whether weights of recurrent layers have one scale each, whatever others have."""
    recurrent: str = ""
    """What is known of LSTM, GRU and RNN there, for the documentation."""

    @property
    def defaults(self) -> Mapping[str, object]:
        """Defaults of a run's options that are its own."""
        return RUNTIME_DEFAULTS.get(self.name, {})

    @property
    def wide(self) -> str:
        """Its default wide precision."""
        return str(self.defaults.get("wide", "a16w8"))

    @property
    def narrow(self) -> str:
        """Its default narrow precisions."""
        found = self.defaults.get("narrow")
        return ",".join(map(str, found)) if isinstance(found, tuple) else "a8w8"

    def why_not(self, precision: Precision, option: PrecisionOption = "wide") -> str:
        """Return why layers cannot have a precision that an option says, and what can; empty if they can."""
        if precision.is_float:
            return ""
        if precision.block and self.options.get("block_size") == (None,):
            return f"{self.name} takes no blocks of inputs ({precision}): leave b{precision.block} out"
        if precision.is_weight_only:
            return self._why_not_alone(precision)
        for part, kind, legal in (
            ("activations", precision.activations, self.activations),
            ("weights", precision.weights, self.weights),
        ):
            if kind not in legal:
                said = {"wide": self.wide, "narrow": self.narrow, "lift": "none"}[option]
                return (
                    f"{self.name} has no {kind} {part} ({precision}); it has {_names(legal)}: "
                    f"use --{option} {said}, for example"
                )
        return self._why_not_beside_bytes(precision)

    def _why_not_beside_bytes(self, precision: Precision) -> str:
        """Return why 8-bit activations cannot stand beside weights of a type that it has; empty if they can."""
        legal = self.weights_beside_bytes
        if legal is None or precision.activations.bits > 8 or precision.weights in legal:
            return ""
        wider = replace(precision, activations=DataType.INT16 if precision.activations.signed else DataType.UINT16)
        return (
            f"{self.name} has no {precision.weights} weights beside 8-bit activations ({precision}): it cannot open a "
            f"file with them; use {wider}, whose file is as small"
        )

    def _why_not_alone(self, precision: Precision) -> str:
        """Return why weights cannot be held in codes beside floats; empty if they can."""
        if precision.weights in self.weights_alone:
            return ""
        if not self.weights_alone:
            return f"{self.name} takes no weights in codes beside float activations ({precision}): use {self.wide}"
        return (
            f"{self.name} has no {precision.weights} weights beside float activations ({precision}); it has "
            f"{_names(self.weights_alone)}"
        )

    @property
    def recurrent_layers(self) -> tuple[str, ...]:
        """Recurrent operators that it is known to compute as layers."""
        return RECURRENT_LAYERS.get(self.name, ())

    @property
    def has_recurrent_weights_alone(self) -> bool:
        """Whether it computes recurrent layers beside floats only."""
        return self.name in RECURRENT_WEIGHTS_ALONE

    def check_layers(self, layer_ops: Iterable[str], precisions: Iterable[Precision]) -> None:
        """Raise InputError for operators that are to be layers and are not known to be run as such there."""
        coded = [precision for precision in precisions if not precision.activations.is_float]
        for op in filter(RECURRENT_OPS.__contains__, layer_ops):
            if op not in self.recurrent_layers:
                raise InputError(
                    f"runtime: {self.name} is not known to run {op} with weights in codes: leave it out of layer_ops"
                )
            if coded and self.has_recurrent_weights_alone:
                raise InputError(
                    f"runtime: {self.name} runs {op} beside floats only, not at {coded[0]}: leave it out of layer_ops, "
                    "or narrow to float32w8"
                )

    def check_options(self, given: Mapping[str, object]) -> None:
        """Raise InputError for options of a run (by name) that no file for this runtime can have."""
        for name, legal in self.options.items():
            if given.get(name) is not None and given[name] not in legal:
                shown, values = name.replace("_", "-"), ", ".join(map(str, legal))
                if legal[0] is None:
                    raise InputError(f"runtime: {self.name} takes no {name}: leave --{shown} out")
                flag = f"--{shown}" if legal[0] is True else f"--no-{shown}" if legal[0] is False else ""
                raise InputError(
                    f"runtime: {self.name} takes {name} {values}, not {given[name]}: "
                    f"use {flag or f'--{shown} {legal[0]}'}"
                )

    @property
    def is_timed_here(self) -> bool:
        """Whether times of this machine are those of the runtime."""
        return self.opens is not None and not self.is_simulator

    def check_package(self) -> None:
        """Raise InputError where what runs it is not installed."""
        if self.package and not self.package_version:
            raise InputError(
                f"runtime: {self.name} is scored in {self.package}, which is not installed: "
                f"pip install 'narrowcast[{self.name}]'"
            )

    @property
    def package_version(self) -> str:
        """Version of what runs it; empty where that is not installed, or ONNX Runtime itself."""
        try:
            return version(self.package) if self.package else ""
        except PackageNotFoundError:
            return ""

    @property
    def place(self) -> str:
        """Where it is run: this processor, and its package; empty for one not run here: it scores alike everywhere."""
        return f"{processor_name()} {self.package} {self.package_version}".strip() if self.opens else ""

    @property
    def scored_in(self) -> str:
        """Name of the runtime that files are scored in: itself, or `reference` for one that is not run here."""
        return self.name if self.opens else "reference"

    def open(self, path: Path) -> OpenModel:
        """Open a file as an application does there, or with all optimisations off if it is not run here."""
        return (self.opens or open_file)(path)

    def findings(self, model: WrittenModel) -> list[Finding]:
        """Return what breaks the rules in a file, rule by rule."""
        return [finding for rule in self.rules for finding in rule.findings(model)]


def _names(kinds: frozenset[DataType]) -> str:
    return ", ".join(str(one) for one in DataType if one in kinds)
