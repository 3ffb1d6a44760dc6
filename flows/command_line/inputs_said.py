"""Options on a model's inputs and outputs, as `narrowcast auto` has them, for commands that take model files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quant_core.config.inputs import InputsConfig
    from quant_core.options import Option

__all__ = ["inputs_said", "inputs_table"]


def inputs_table() -> Sequence[Option]:
    """Return their rows of the table of options."""
    from flows.options.catalogue import rows
    from quant_core.config.inputs import InputsConfig

    return rows(*InputsConfig.model_fields)


def inputs_said(given: Mapping[str, object]) -> InputsConfig:
    """Return what is said by their values, as a command or a manifest has them: texts, lists, or None."""
    from quant_core.config.inputs import InputsConfig
    from quant_core.options import listed

    lists = {name: listed(value) if isinstance(value, str) else value for name, value in given.items() if value}
    return InputsConfig.model_validate(lists)
