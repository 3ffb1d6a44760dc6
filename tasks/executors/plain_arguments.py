"""Arguments of a step as plain JSON, for a worker that shares nothing with us but the workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

import pyarrow as pa
from pydantic import BaseModel, TypeAdapter, ValidationError

from quant_core.errors import InputError
from quant_core.execution.runner import StageFunction
from quant_core.storage.tables import facts
from tasks.cache.result_store import ResultStore

__all__ = ["PlainArguments", "plain", "restored"]

PlainArguments = dict[str, Any]
"""Arguments by name, of JSON's types: tables by the keys they are stored under, a reference or settings by value."""


def plain(arguments: Mapping[str, Any]) -> PlainArguments:
    """The arguments in JSON's types."""
    return {name: _plain(value) for name, value in arguments.items()}


def _plain(value: Any) -> Any:
    match value:
        case pa.Table():
            return facts(value)["key"]
        case BaseModel():
            return value.model_dump(mode="json")
        case list() | tuple():
            return [_plain(one) for one in value]
        case _:
            return value


def restored(function: StageFunction, arguments: PlainArguments, results: ResultStore) -> dict[str, Any]:
    """The arguments again, of the types the stage declares; raises InputError for what is none of them."""
    declared = get_type_hints(function)
    unknown = arguments.keys() - declared.keys()
    if unknown:
        raise InputError(f"{function.__name__} has no argument {', '.join(sorted(unknown))}")
    return {name: _restored(name, declared[name], value, results) for name, value in arguments.items()}


def _restored(name: str, declared: Any, value: Any, results: ResultStore) -> Any:
    if declared in (pa.Table, pa.Table | None):
        return None if value is None else results.load(str(value))
    if declared == Sequence[pa.Table]:
        return [results.load(str(key)) for key in value]
    try:
        return TypeAdapter(declared).validate_python(value)
    except ValidationError as error:
        raise InputError(f"{name}: {error.errors()[0]['msg']}") from error
