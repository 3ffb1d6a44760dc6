"""Arguments of a step as plain JSON, for a worker that shares nothing with us but the workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
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
        case _ if is_dataclass(value):
            return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        case _:
            return value


def restored(function: StageFunction, arguments: PlainArguments, results: ResultStore) -> dict[str, Any]:
    """The arguments again, of the types the stage declares; raises InputError for what is none of them."""
    return _of_declared(function, arguments, function.__name__, results)


def _of_declared(declaring: Any, values: Any, name: str, results: ResultStore) -> dict[str, Any]:
    """Return values by name, of the types that a function or a record declares."""
    declared = get_type_hints(declaring)
    unknown = values.keys() - declared.keys() if isinstance(values, Mapping) else {repr(values)}
    if unknown:
        raise InputError(f"{name} has no argument {', '.join(sorted(unknown))}")
    return {key: _restored(key, declared[key], value, results) for key, value in values.items()}


def _record(declared: type, values: Any, name: str, results: ResultStore) -> Any:
    """Return a record of plain values; raises InputError where one is missing."""
    try:
        return declared(**_of_declared(declared, values, name, results))
    except TypeError as error:
        raise InputError(f"{name}: {error}") from error


def _restored(name: str, declared: Any, value: Any, results: ResultStore) -> Any:
    if declared in (pa.Table, pa.Table | None):
        return None if value is None else results.load(str(value))
    if declared == Sequence[pa.Table]:
        return [results.load(str(key)) for key in value]
    if declared == tuple[pa.Table, ...]:
        return tuple(results.load(str(key)) for key in value)
    if isinstance(declared, type) and is_dataclass(declared):
        return _record(declared, value, name, results)
    try:
        return TypeAdapter(declared).validate_python(value)
    except ValidationError as error:
        raise InputError(f"{name}: {error.errors()[0]['msg']}") from error
