"""What a step's result depends on, and the key it is stored under.

The key is a sha256 over the step, the versions of the engine and of ONNX Runtime, and the step's arguments:
models and data by their digests, tables by the key they were themselves stored under, settings by value. A
step is given just the settings it reads, so nothing else can invalidate it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import onnxruntime
import pyarrow as pa
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from pydantic import BaseModel

import quant_core
from quant_core.storage.references import Reference
from quant_core.storage.tables import SCHEMA_VERSION, facts, with_facts

__all__ = ["GivenKey", "engine_digest", "keyed", "source_digest", "step_key"]


@dataclass
class GivenKey(CachePolicy):
    """A cache policy that stores a result under the key the task is handed."""

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        """Return the task's argument `key`."""
        key = inputs.get("key")
        return None if key is None else str(key)


def step_key(step: str, arguments: Mapping[str, Any]) -> str:
    """The key of a step: its name, a dash and a sha256."""
    content = {
        "step": step,
        "schemas": SCHEMA_VERSION,
        "engine": engine_digest(),
        "onnxruntime": onnxruntime.__version__,
        "arguments": {name: _content(name, value) for name, value in sorted(arguments.items())},
    }
    return f"{step}-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}"


def keyed(table: pa.Table, key: str) -> pa.Table:
    """The table, bearing the key of the step that made it."""
    return with_facts(table, key=key)


def _content(name: str, value: Any) -> Any:
    """What stands for an argument in the key."""
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
        case _:
            found = value
    return found


def source_digest(function: str) -> str:
    """Digest of the module a user's function is in: an edited metric is another metric."""
    spec = importlib.util.find_spec(function.partition(":")[0])
    source = Path(spec.origin).read_bytes() if spec and spec.origin else b""
    return hashlib.sha256(source).hexdigest()


@lru_cache(maxsize=1)
def engine_digest() -> str:
    """Digest of the engine's source: results of another version are never taken for this one's."""
    folder = Path(quant_core.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return digest.hexdigest()
