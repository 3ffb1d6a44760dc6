"""Reads a user's plan from its file: types with names (YAML or JSON), or the manifest of an earlier run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import fsspec
import yaml

from quant_core.assignments.assignment import Assignment
from quant_core.config import LayerWiseConfig
from quant_core.errors import InputError, one_line
from quant_core.execution.progress import watcher
from quant_core.precision import PrecisionPlan
from quant_core.results.manifest_file import was_changed
from quant_core.storage.retry import patiently
from quant_core.urls import redacted

__all__ = ["WrittenPlan", "read_plan"]


@dataclass(frozen=True)
class WrittenPlan:
    """What a file says."""

    assignment: Assignment
    """Which names get which type."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Options of LayerWiseConfig that the plan was made with: those of a manifest, without its targets."""


def read_plan(url: str | os.PathLike[str]) -> WrittenPlan:
    """Read a file at a path or URL; raises InputError when it is not there or holds something else.

    A manifest's plan comes with the settings it was measured at, so that the same plan gives the same file.
    """
    source = os.fspath(url)
    try:
        text = patiently(lambda: _read(source), source).decode()
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{source}: cannot be read: {error}") from error
    content = _content(text, source)
    try:
        if isinstance(content.get("plan"), Mapping):
            if was_changed(content):
                said = "was changed after its run wrote it; its plan is taken as it stands"
                watcher().warned(f"{redacted(source)}: {said}")
            return _of_manifest(content)
        return WrittenPlan(Assignment.of({kind: _names(kind, names) for kind, names in content.items()}))
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def _read(source: str) -> bytes:
    with fsspec.open(source, "rb") as stream:
        return bytes(stream.read())


def _content(text: str, source: str) -> Mapping[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        content = _yaml(text, source)
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{source}: expected types with names, such as `int8: [conv1, conv2]`, or a manifest.json")
    return content


def _yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Strict)
    except yaml.YAMLError as error:
        raise InputError(f"{source}: is not YAML: {one_line(error)}") from error


class _Strict(yaml.BaseLoader):
    """Reads every scalar as text (a tensor may be called 123), and refuses a key that comes twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} comes twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _of_manifest(content: Mapping[str, Any]) -> WrittenPlan:
    tensors, config = content.get("tensors") or {}, content.get("config") or {}
    if not isinstance(tensors, Mapping) or not isinstance(config, Mapping):
        raise InputError("is not a manifest of narrowcast: its tensors and its config must be names with values")
    plan = PrecisionPlan.from_dict(content["plan"], tensors)
    kept = [name for name in LayerWiseConfig.model_fields if name in config and name not in ("target", "also")]
    return WrittenPlan(Assignment.of_plan(plan), {name: config[name] for name in kept})


def _names(kind: str, names: Any) -> list[str]:
    listed = [names] if isinstance(names, str) else names
    if not isinstance(listed, list) or not listed or not all(isinstance(name, str) and name for name in listed):
        raise InputError(f"{kind}: expected names or patterns, such as [conv1, '/block2/*']")
    return listed
