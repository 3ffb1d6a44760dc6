"""What a model file says about itself: metadata, doc strings, domain and version, which programs read that load it."""

from __future__ import annotations

import onnx

from quant_core.model.notes import OWN_PREFIX

__all__ = ["copy_descriptions"]


def copy_descriptions(source: onnx.ModelProto, target: onnx.ModelProto) -> None:
    """Give a model what another of the same inputs and outputs says about itself."""
    target.domain, target.model_version, target.doc_string = source.domain, source.model_version, source.doc_string
    target.graph.doc_string = source.graph.doc_string
    own = [entry for entry in target.metadata_props if entry.key.startswith(OWN_PREFIX)]
    given = [entry for entry in source.metadata_props if not entry.key.startswith(OWN_PREFIX)]
    del target.metadata_props[:]
    target.metadata_props.extend([*given, *own])
    texts = {value.name: value.doc_string for value in [*source.graph.input, *source.graph.output]}
    for value in [*target.graph.input, *target.graph.output]:
        value.doc_string = texts.get(value.name, "")
