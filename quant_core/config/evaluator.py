"""The user's own evaluator of model files: a function, or a command."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from quant_core.config.frozen import FrozenModel
from quant_core.flags import Flag, Heading

__all__ = ["EvaluatorConfig"]


class EvaluatorConfig(FrozenModel):
    """The user's own evaluator of model files."""

    evaluator: Annotated[str | None, Flag(Heading.TARGET, "PKG.MOD:FN")] = Field(
        default=None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="Your own evaluator, fn(open_session, labels). It returns a number, or one value a sample. "
        "open_session() opens the model, open_session(file) any other; for a target such as min_score.",
    )
    evaluate_command: Annotated[str | None, Flag(Heading.TARGET, "CMD")] = Field(
        default=None,
        min_length=1,
        description="Your own command that evaluates a model file, on a board for one. It gets the file's path as its "
        "last argument, or in place of {model}, and the data's in place of {data}. The last line it prints is the "
        "number, or JSON: a number, a list with one value a sample, or either as `score` of an object.",
    )
    evaluate_timeout: Annotated[float, Flag(Heading.TARGET, "SECONDS")] = Field(
        default=3600.0, gt=0, allow_inf_nan=False, description="The longest time that evaluate_command may take a file."
    )
    evaluator_path: Annotated[str | None, Flag(Heading.TARGET, "DIR", is_path=True)] = Field(
        default=None,
        description="The folder that the evaluator is imported from, besides the current one. For runs that start "
        "elsewhere, such as those of a deployment.",
    )

    @property
    def has_evaluator(self) -> bool:
        """Whether a function or a command of the user's measures model files."""
        return self.evaluator is not None or self.evaluate_command is not None

    @model_validator(mode="after")
    def _one_evaluator(self) -> Self:
        if self.evaluator is not None and self.evaluate_command is not None:
            raise ValueError("evaluate_command: give it or an evaluator, not both")
        if self.evaluator_path is not None and self.evaluator is None:
            raise ValueError("evaluator_path: is for an evaluator; give one, or leave it out")
        return self
