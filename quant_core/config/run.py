"""Options of every run, however its plan is chosen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from quant_core.config.cost import CostConfig
from quant_core.config.data import DataConfig
from quant_core.config.inputs import InputsConfig
from quant_core.config.layer_operators import default_layer_ops
from quant_core.config.quantization import QuantizationConfig
from quant_core.config.runtimes import with_runtime_defaults
from quant_core.config.targets import TargetsConfig
from quant_core.config.written_format import FormatName, why_not_written
from quant_core.errors import InputError
from quant_core.flags import Flag, Heading
from quant_core.model.operators import COMPUTE_OPS, DEFAULT_LAYER_OPS, LayerOp
from quant_core.precision import DataType, Precision
from quant_core.validation import mistakes_of

__all__ = ["Config", "LayerWiseConfig", "RunConfig", "validated"]


def _index_or_name(output: object) -> object:
    """Return the index that a text of digits is, as the command line has it."""
    return int(output) if isinstance(output, str) and re.fullmatch(r"-?\d+", output) else output


class RunConfig(InputsConfig, DataConfig, TargetsConfig, CostConfig, QuantizationConfig):
    """Options of every run, however its plan is chosen."""

    layer_ops: Annotated[tuple[LayerOp, ...], Flag(Heading.PRECISIONS, "OPERATORS")] = Field(
        default=DEFAULT_LAYER_OPS,
        min_length=1,
        description="Operators that are layers. Other products stay wide, and other recurrent nodes in float. By "
        "default LSTM, GRU and RNN are among them where the runtime is known to take them so, and Gather is where a "
        "precision narrows weights alone (`float32w8`): its constant table, of embeddings for one, is narrowed.",
    )
    candidates: Annotated[Literal["layers", "all"], Flag(Heading.PRECISIONS, "WHICH")] = Field(
        default="layers",
        description="What a plan may narrow. Layers, or every operator that is quantized (Add, Mul, pools and so on), "
        "which a search beside a wide float32 does by default, for the sake of CPUs.",
    )
    output: Annotated[
        int | str,
        BeforeValidator(_index_or_name, json_schema_input_type=int | str),
        Flag(Heading.DATA, "NAMES|INDEX|all"),
    ] = Field(
        default="all",
        description="The model output that is compared. Its index or name, or `all` for all that hold floats: L2 "
        "is then over all of them, SQNR and cosine distance are those of the worst. Or several names; float tensors "
        "inside the model have names too.",
    )
    split_outputs: Annotated[bool, Flag(Heading.DATA)] = Field(
        default=True,
        description="Tell boxes from scores, or other channels of an output of unlike scale. SQNR is then that of the "
        "worse part, and layers are ranked by both alike.",
    )
    exclude: Annotated[tuple[str, ...], Flag(Heading.PRECISIONS, "NODES")] = Field(
        default=(), description="Nodes that stay in float, by name, pattern (`/head/*`) or operator (`op:Softmax`)."
    )
    optimize: Annotated[bool, Flag(Heading.MODEL)] = Field(
        default=True,
        description="Let ONNX Runtime fold constants and batch norms before anything is quantized.",
    )
    pairs: Annotated[Literal["standard", "com.microsoft"], Flag(Heading.MODEL, "DOMAIN")] = Field(
        default="standard",
        description="The domain of the Q/DQ pairs. For the standard's the model is brought to opset 21; ONNX "
        "Runtime's own hold 16 bits at the model's own opset, of 13 at least, as some vendors' runtimes expect.",
    )
    improve: Annotated[Literal["none", "auto"], Flag(Heading.RANGES, "WHAT")] = Field(
        default="none",
        description="Try what makes layers better at equal bits, and keep what helps. auto: signed activation types "
        "get zero points, where the runtime takes them; the spread of activations is moved into weights; then weights "
        "are chosen anew, for each precision and for the plan found, so that each layer makes up for what those before "
        "it lost. Each is kept where it lowers the "
        "error on calibration samples that are held out.",
    )
    equalize: Annotated[bool, Flag(Heading.MODEL)] = Field(
        default=False,
        description="Make the channels of each weight alike in range first. This is done where the next layer can "
        "make up for it.",
    )
    absorb_biases: Annotated[bool, Flag(Heading.MODEL)] = Field(
        default=False,
        description="Move biases into the next layers, where these can add them instead. That is where nothing but "
        "additions and pools is between, and no padding. On ONNX Runtime it is the default where bytes are saved.",
    )
    providers: Annotated[tuple[str, ...], Flag(Heading.RANGES, "NAMES")] = Field(
        default=("CPUExecutionProvider",),
        min_length=1,
        description="ONNX Runtime's execution providers for calibration, probes and plans. For example "
        "CUDAExecutionProvider; the first one that can is taken. What is shipped is always measured on the CPU.",
    )
    format: Annotated[FormatName, Flag(Heading.MODEL, "FORMAT")] = Field(
        default="qdq",
        description="How the model is written. With Q/DQ pairs, or (8-bit types only) with ONNX Runtime's integer "
        "operators, as its own conversion makes them; with its MatMulNBits where floats meet weights in blocks, at "
        "accuracy level 1, which is float32; or with its DynamicQuantizeLSTM for LSTM layers of 8 bits, which are "
        "slower than in float between pairs.",
    )
    batch_size: Annotated[int | None, Flag(Heading.RUNNING, "N")] = Field(
        default=None,
        ge=1,
        description="Samples a forward pass takes at once. By default as many as keep memory small.",
    )
    score_in: Annotated[Literal["simulation", "runtime"], Flag(Heading.SEARCH, "WHERE")] = Field(
        default="simulation",
        description="What plans are scored in while they are searched. A simulation of what the pairs say, or the "
        "runtime itself, where its numbers differ; the finished file is always scored in the runtime.",
    )

    @model_validator(mode="before")
    @classmethod
    def _a_runtime_has_defaults(cls, given: Any) -> Any:
        return with_runtime_defaults(given, cls.model_fields)

    @model_validator(mode="before")
    @classmethod
    def _layers_go_with_runtime_and_precisions(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {"layer_ops": default_layer_ops(given.get("narrow"), given.get("runtime", "onnxruntime")), **given}

    @property
    def saves_bytes(self) -> bool:
        """Whether the bytes of the file are saved, or have a budget."""
        return "bytes" in (self.cost, *self.budgets)

    @property
    def ladder(self) -> tuple[Precision, ...]:
        """The precisions that a plan is made of, the wide one first."""
        return (self.wide,)

    @model_validator(mode="after")
    def _format_goes_with_the_rest(self) -> Self:
        if why := self.why_not_written(self.ladder):
            raise ValueError(f"format: {why}")
        return self

    def why_not_written(self, ladder: Sequence[Precision]) -> str:
        """Return why plans of these precisions, wide first, are not written in the format; empty where they are."""
        timed = self.counts_latency and self.device_costs is None
        return why_not_written(self.format, self.runtime, ladder, self.block_size, self.layer_ops, timed)

    @property
    def candidate_ops(self) -> tuple[str, ...]:
        """Operators whose precision a plan chooses."""
        return self.layer_ops if self.candidates == "layers" else (*self.layer_ops, *COMPUTE_OPS)

    def preparation(self) -> dict[str, Any]:
        """The part that decides what the prepared model and its layers are, as arguments of `prepare`."""
        return {
            "layer_ops": self.candidate_ops,
            "equalize": self.equalize,
            "absorb_biases": self.absorb_biases,
            "optimize": self.optimize,
            "pairs": self.pairs,
            "exclude": self.exclude,
            "sample_axis": self.sample_axis,
            "classes": self.classes,
            "split_outputs": self.split_outputs,
            "fix_inputs": self.fix_inputs,
            "states": self.states,
            "output": self.output if isinstance(self.output, str) and self.output != "all" else None,
            "opset": self.opset,
        }

    @property
    def opset(self) -> int:
        """The opset that a model is raised to: the first whose pairs take every type that a plan may have."""
        return max([_USUAL, *(one.weights.first_opset for one in self.ladder if not one.weights.is_float)])

    def quantization(self) -> QuantizationConfig:
        """The part that decides scales and codes.

        Integer operators of int8 activations take int8 weights alone: codes are kept in range, not stored as uint8.
        """
        found = self.model_dump(include=set(QuantizationConfig.model_fields))
        if self._has_signed_integer_operators and self.byte_sums == "auto":
            found["byte_sums"] = "fast"
        return QuantizationConfig.model_validate(found)

    @property
    def _has_signed_integer_operators(self) -> bool:
        return self.format == "qoperator" and any(one.activations is DataType.INT8 for one in self.ladder)

    @model_validator(mode="after")
    def _integer_operators_take_weights_of_the_sign_of_activations(self) -> Self:
        if self._has_signed_integer_operators and self.byte_sums == "exact" and self.runtime == "onnxruntime":
            raise ValueError(
                "byte_sums: exact stores weights as uint8, which integer operators do not take beside int8 "
                "activations; use au8w8, fast, or the format qdq"
            )
        return self


_USUAL = 21
"""The first opset whose pairs take types of 4 and of 16 bits."""


class LayerWiseConfig(RunConfig):
    """The configuration of a run whose plan the user has chosen."""


Config = TypeVar("Config", bound=RunConfig)
"""A kind of run's configuration."""


def validated(kind: type[Config], options: Mapping[str, object]) -> Config:
    """Build a configuration of some kind from loose options; raises InputError as `config_from` does."""
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        raise InputError(str(mistakes_of(error, kind)[0])) from error
