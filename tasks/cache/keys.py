"""What a step's result depends on, and the key it is stored under.

The key is a sha256 over the stage, the code of the engine that the stage can import, the version of ONNX Runtime, and
the step's arguments: models and data by their digests, tables by the key they were themselves stored under, settings by
value. A step is given just the settings it reads, so nothing else can invalidate it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import onnxruntime
import pyarrow as pa
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from pydantic import BaseModel

from quant_core.execution.runner import Stage
from quant_core.storage.references import Reference
from quant_core.storage.schemas import SCHEMA_VERSION
from quant_core.storage.tables import facts, with_facts
from tasks.cache.code_digests import kept_code_digest

__all__ = ["GivenKey", "source_digest", "step_key", "with_key"]


@dataclass
class GivenKey(CachePolicy):
    """A cache policy that stores a result under the key the task is handed."""

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """Return the task's argument `key`."""
        key = inputs.get("key")
        return None if key is None else str(key)


def step_key(stage: Stage, arguments: Mapping[str, Any]) -> str:
    """Return the key of a step: the stage's name, a dash and a sha256."""
    content = {
        "step": stage.name,
        "schemas": SCHEMA_VERSION,
        "engine": kept_code_digest(stage.function.__module__),
        "onnxruntime": onnxruntime.__version__,
        "arguments": {name: _content(name, value) for name, value in sorted(arguments.items())},
    }
    return f"{stage.name}-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}"


def with_key(table: pa.Table, key: str) -> pa.Table:
    """The table, bearing the key of the step that made it."""
    return with_facts(table, key=key)


def _content(name: str, value: Any) -> Any:
    """Return what stands for an argument in the key."""
    match value:
        case pa.Table():
            found = facts(value)["key"]
        case Reference():
            found = value.sha256
        case BaseModel():
            found = value.model_dump(mode="json")
        case Mapping():
            found = [[entry, _content(name, inner)] for entry, inner in value.items()]
        case list() | tuple():
            found = [_content(name, inner) for inner in value]
        case str() if name == "function":
            found = [value, source_digest(value)]
        case _ if is_dataclass(value):
            found = {
                field.name: _content(field.name, getattr(value, field.name)) for field in fields(value) if field.compare
            }
        case _:
            found = value
    return found


def source_digest(function: str) -> str:
    """Digest of the module a user's function is in: an edited metric is another metric."""
    spec = importlib.util.find_spec(function.partition(":")[0])
    source = Path(spec.origin).read_bytes() if spec and spec.origin else b""
    return hashlib.sha256(source).hexdigest()
