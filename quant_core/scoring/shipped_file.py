"""Opens a written model file to score it."""

from __future__ import annotations

from quant_core.execution.machine import Machine
from quant_core.model.graph import FloatGraph
from quant_core.model.inner_tensors import with_outputs
from quant_core.model.sessions import OpenModel
from quant_core.runtimes.registry import profile_of
from quant_core.storage.references import Reference, fetch
from quant_core.storage.scratch import scratch_folder

__all__ = ["open_shipped"]


def open_shipped(file: Reference, graph: FloatGraph, runtime: str, machine: Machine) -> OpenModel:
    """Open a file as its runtime does, for the outputs that are compared.

    Where that is a tensor inside, it is a copy of the file which gives this too: the file has the user's outputs only.

    Args:
        file: the file.
        graph: the prepared model that it was made of.
        runtime: name of the runtime.
        machine: cache.

    """
    profile, path = profile_of(runtime), fetch(file, machine.cache)
    if not graph.inside:
        return profile.open(path)
    with scratch_folder(machine.cache) as folder:
        return profile.open(with_outputs(path, graph.inside.values(), folder))
