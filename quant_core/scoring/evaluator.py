"""Scores a model file by what the user calls quality: by a function of theirs, or by a command.

The function is given what opens models, so that it may run several in a chain or a loop, and the labels. The command is
given the file's path. Both return one number, or one value a sample.
"""

from __future__ import annotations

import hashlib
import io
import reprlib
import threading
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quant_core.config.evaluator import EvaluatorConfig
from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.execution.progress import watcher
from quant_core.model.data.fitted_data import model_data
from quant_core.model.prepared_model import prepared_graph
from quant_core.model.sessions import OpenModel
from quant_core.model.stored_model import MODEL_FILE
from quant_core.runtimes.registry import profile_of
from quant_core.scoring.evaluate_command import command_arguments, command_output
from quant_core.scoring.user_function import call_function, finite_number, load_function
from quant_core.storage.data import Dataset, samples_of
from quant_core.storage.references import Reference, fetch
from quant_core.storage.schemas import OWN_SCORES
from quant_core.storage.tables import with_facts

__all__ = ["Evaluator", "SessionFactory", "own_scores"]


@dataclass(frozen=True)
class Evaluator:
    """What of the user's scores a model file. What is not compared does not change a score, nor its key."""

    function: str | None = None
    """`pkg.mod:fn`; None where it is a command."""
    command: str | None = None
    """The command line; None where it is a function."""
    sources: tuple[str, ...] = ()
    """Digests of the files that the command names."""
    folder: str | None = field(default=None, compare=False)
    """Where the function is imported from, besides the current folder."""
    timeout: float = field(default=3600.0, compare=False)
    """The longest time that the command may take, in seconds."""

    @classmethod
    def of(cls, config: EvaluatorConfig) -> Evaluator | None:
        """Return the evaluator of a configuration; None where there is none."""
        if not config.has_evaluator:
            return None
        named = map(Path, command_arguments(config.evaluate_command) if config.evaluate_command else ())
        sources = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in named if path.is_file())
        return cls(config.evaluator, config.evaluate_command, sources, config.evaluator_path, config.evaluate_timeout)

    @property
    def name(self) -> str:
        """How it is called in messages: the function, or the option of the command."""
        return self.function or "evaluate_command"

    @property
    def knows_data(self) -> bool:
        """Whether it is told which data to evaluate on; if not, its score on held-out data would be the same."""
        return self.command is None or "{data}" in self.command

    def check(self) -> None:
        """Raise InputError for a function that cannot be imported."""
        if self.function is not None:
            load_function(self.function, self.folder)

    def score(self, opened: SessionFactory, data: Dataset) -> float | NDArray[np.float64]:
        """Return the score of a model: a finite number, or one a sample.

        Raises InputError, with one line, for a function that raises, a command that fails or takes too long, and for
        what is no such number.
        """
        if self.command is not None:
            returned = command_output(self.command, opened.file, data.source, self.timeout)
        else:
            returned = self._called(opened, data.labels)
        if np.ndim(returned) == 0:
            return finite_number(self.name, returned)
        return self._one_a_sample(returned, data.count)

    def _called(self, opened: SessionFactory, labels: NDArray[np.generic] | None) -> Any:
        """Call the function; what it prints is told in a line, because the output is the run's own."""
        function = load_function(str(self.function), self.folder)
        printed = io.StringIO()
        with _one_at_a_time, redirect_stdout(printed):
            returned = call_function(self.name, function, opened, labels)
        if lines := printed.getvalue().splitlines():
            watcher().noted(f"{self.name}: printed {len(lines)} lines, the last one: {lines[-1]}")
        return returned

    def _one_a_sample(self, returned: Any, count: int) -> NDArray[np.float64]:
        try:
            values = np.asarray(returned, np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.name}: returned {reprlib.repr(returned)}; {_WANTED}") from error
        if values.shape != (count,):
            raise InputError(
                f"{self.name}: returned values of shape {list(values.shape)} of {count} samples; {_WANTED}"
            )
        if len(bad := np.flatnonzero(~np.isfinite(values))):
            raise InputError(
                f"{self.name}: returned {values[bad[0]]} of sample {bad[0]}; it must return finite numbers"
            )
        return values


_WANTED = "it must return a number, or one value a sample"
_one_at_a_time = threading.Lock()
"""Held while a function runs: standard output is the whole process's, and the function may not be ready for threads."""


@dataclass(frozen=True)
class SessionFactory:
    """Opens models for an evaluator. A model that it opens maps arrays by input to arrays by output."""

    file: Path
    """The model file to evaluate."""
    runtime: str
    """Name of the runtime it is opened in."""
    inputs: Mapping[str, Any]
    """The samples of each input, shape [samples, ...]; a list where samples differ in shape."""

    def __call__(self, file: str | Path | None = None, runtime: str | None = None) -> OpenModel:
        """Open the model to evaluate, or another file, as its runtime or another one opens it.

        Raises InputError for a file that is not there, and for an unknown runtime.
        """
        path = self.file if file is None else Path(file)
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        return profile_of(runtime or self.runtime).open(path)


def own_scores(
    model: Reference | None,
    layers: pa.Table,
    data: Reference,
    evaluator: Evaluator,
    runtime: str,
    processor: str,
    machine: Machine,
) -> pa.Table:
    """Score a model file by the user's evaluator (schema OWN_SCORES).

    Args:
        model: the file; None for the float model, as it was prepared.
        layers: layer table of the prepared model.
        data: the samples and labels it is evaluated on.
        evaluator: what scores it.
        runtime: name of the runtime that opens it.
        processor: where that is, for runtimes whose numbers depend on it; so a score of one is not another's.
        machine: cache.

    """
    graph = prepared_graph(layers, machine.cache)
    path = graph.folder / MODEL_FILE if model is None else fetch(model, machine.cache)
    dataset = model_data(graph, data, machine.cache)
    columns = {name: samples_of(column) for name, column in dataset.columns.items()}
    score = evaluator.score(SessionFactory(path, runtime, {**columns, **dataset.constants}), dataset)
    table = pa.table({"score": np.atleast_1d(np.asarray(score, np.float64))}).cast(OWN_SCORES)
    return with_facts(table, per_sample=isinstance(score, np.ndarray))
