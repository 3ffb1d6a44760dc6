"""Which failures of a step are tried again, and when.

A store that fails is asked again where it is asked (`quant_core.storage.retry`), and a step whose process died is
begun again by the executor that lost it. What is left is input and output that failed otherwise: a network file system,
say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quant_core.model.data.batches import LARGEST_BATCH
from quant_core.storage.retry import may_pass

__all__ = ["can_pass", "is_worth_another_try", "smaller_batches"]


def can_pass(error: object) -> bool:
    """Return whether a step that failed so may succeed if it is simply run again.

    Bad input, a bug or a full disk fail again. So does a lack of memory, unless less is asked for, and an outage
    has been waited for already.
    """
    return isinstance(error, OSError) and may_pass(error)


def is_worth_another_try(task: Any, run: Any, state: Any) -> bool:
    """Prefect's question about a failed step."""
    return can_pass(state.result(raise_on_failure=False))


def smaller_batches(arguments: Mapping[str, Any]) -> list[int]:
    """Batch sizes to try in turn when memory does not suffice for a step; none for a step without batches."""
    if "batch_size" not in arguments:
        return []
    size = arguments["batch_size"] or LARGEST_BATCH
    return [size // divisor for divisor in (4, 16) if size // divisor > 1] + ([1] if size > 1 else [])
