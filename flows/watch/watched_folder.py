"""A folder of float models, each with the options it is to be quantized by.

The options of `resnet20.onnx` are in `resnet20.yaml` beside it; where there is none, in the folder's `narrowcast.yaml`.
Paths in such a file are relative to the folder it is in.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.options.option_file import OptionFile, parse_options
from flows.options.run_options import INPUTS, LIMITS, OF_THE_TARGET, run_options
from flows.watch.digest_cache import DigestCache
from quant_core.config import MixedPrecisionConfig
from quant_core.errors import IncompleteError, InputError, NarrowcastError, one_line
from quant_core.model.model_file import refer_model
from quant_core.pipeline.given_data import RANDOM, check_used, data_form
from quant_core.storage.data_forms import DataForm
from quant_core.storage.references import Reference, refer
from quant_core.storage.store import Store
from quant_core.urls import redacted
from quant_core.validation import Mistake
from tasks.cache.keys import source_digest

__all__ = ["FOLDER_OPTIONS", "Job", "WatchedFolder"]

FOLDER_OPTIONS = "narrowcast.yaml"
"""Options of the models that have no file of their own."""

_DATA = ("calibration", "evaluation", "holdout")
_REQUIRED = ("calibration", "evaluation")
_OF_THE_WATCH = tuple(name for name in INPUTS if name not in _DATA)


@dataclass(frozen=True)
class Job:
    """A model, and everything that its result depends on."""

    model: Reference
    """The float model."""
    calibration: Reference
    """Data that ranges are chosen from."""
    evaluation: Reference
    """Data that layers are ranked and plans accepted on."""
    holdout: Reference | None
    """Data that only the finished model is measured on."""
    config: MixedPrecisionConfig
    """Its options."""

    @property
    def version(self) -> str:
        """The digest of model, data and options: a version that exists is not computed again."""
        files = {name: reference and reference.sha256 for name, reference in self._data().items()}
        if self.config.device_costs:
            files["device_costs"] = refer(self.config.device_costs).sha256
        if self.config.target.function:
            files["function"] = source_digest(self.config.target.function)
        if self.config.evaluator:
            files["evaluator"] = source_digest(self.config.evaluator)
        options = self.config.model_dump(mode="json", exclude={"device_costs"})
        content = json.dumps([self.model.sha256, files, options], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def _data(self) -> dict[str, Reference | None]:
        return {"calibration": self.calibration, "evaluation": self.evaluation, "holdout": self.holdout}


@dataclass(frozen=True)
class WatchedFolder:
    """The folder as one scan finds it."""

    place: Store
    """Where it is."""
    metrics: Collection[str] = ()
    """The functions (`pkg.mod:fn`) that options in the folder may name: others are not imported."""
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the store says of each file, by name."""
    digests: DigestCache = field(default_factory=DigestCache)
    """Digests from earlier scans."""
    _data: dict[str, Reference] = field(default_factory=dict)

    @classmethod
    def at(cls, url: str, metrics: Collection[str] = (), digests: DigestCache | None = None) -> WatchedFolder:
        """List the folder of a path or URL; raises InputError when it is not there or cannot be read."""
        place = Store(url)
        if place.folder is not None and not place.folder.is_dir():
            raise InputError(f"{place}: {'is a file' if place.folder.exists() else 'no such folder'}; nothing to watch")
        try:
            return cls(place, metrics, place.listing(""), digests or DigestCache())
        except NarrowcastError:
            raise
        except Exception as error:  # a store's library raises what it likes
            raise InputError(f"{place}: cannot be read: {redacted(one_line(error))}") from None

    @property
    def models(self) -> list[str]:
        """Names of the models in the folder and its subfolders, without hidden ones (whose name begins with a dot)."""
        return [name for name in self.files if name.endswith(".onnx") and not f"/{name}".count("/.")]

    def named(self, model: str) -> str:
        """Return the name of a model given by its name or its URL; raises InputError when it is not there."""
        name = model.removeprefix(f"{self.place.url.rstrip('/')}/")
        if name not in self.models:
            raise InputError(f"{redacted(model)}: no such model in {self.place}")
        return name

    def stamp(self, name: str) -> str:
        """Return a text that changes when the model, its options, or a file that may hold its weights is written."""
        folder = posixpath.dirname(name)
        near = [other for other in self.files if posixpath.dirname(other) == folder and not other.endswith(".onnx")]
        return repr([(other, sorted(self.files.get(other, {}).items())) for other in [name, FOLDER_OPTIONS, *near]])

    def is_young(self, name: str, seconds: float) -> bool:
        """Return whether a model was written less than so many seconds ago; False where the store does not say."""
        facts = self.files.get(name, {})
        when = next((facts[key] for key in ("mtime", "LastModified", "last_modified", "created") if key in facts), 0.0)
        if isinstance(when, datetime):
            when = when.replace(tzinfo=when.tzinfo or UTC).timestamp()
        return isinstance(when, float | int) and time.time() - when < seconds

    def job(self, name: str) -> Job:
        """Return the job of a model.

        Raises IncompleteError when a part of it seems to be missing still, and InputError when its options or its
        data cannot be used.
        """
        options, config = self._options(name)
        model = self.digests.reference(self._url(name), refer_model)
        sources = [options[part] for part in _DATA]
        with tempfile.TemporaryDirectory() as cache:
            forms = [data_form(model, source, config, seed, Path(cache)) for seed, source in enumerate(sources)]
        check_used(forms, config)
        calibration, evaluation, *holdout = map(self._referred, filter(None, sources), forms)
        return Job(model, calibration, evaluation, holdout[0] if holdout else None, config)

    def _options(self, name: str) -> tuple[dict[str, Any], MixedPrecisionConfig]:
        own = f"{name.removesuffix('.onnx')}.yaml"
        chosen = next((file for file in (own, FOLDER_OPTIONS) if file in self.files), None)
        content = None if chosen is None else self.place.read(chosen)
        if chosen is None or content is None:
            raise IncompleteError(f"{self.place / name}: has no options: there is no {own} and no {FOLDER_OPTIONS}")
        known = [*INPUTS, *LIMITS, *OF_THE_TARGET, *MixedPrecisionConfig.model_fields]
        file = self._checked(parse_options(str(self.place / chosen), content, known))
        inputs, config = run_options(file, {}, MixedPrecisionConfig, _DATA, _REQUIRED)
        functions = {"metric": config.target.function, "evaluator": config.evaluator, "timer": config.timer}
        for option, function in functions.items():
            if function and function not in self.metrics:
                raise InputError(f"{file.path}: {option} {function}: is not among those that this watch may import")
        for option in ("evaluate_command", "evaluator_path"):  # what is in the folder may not say what is run here
            if getattr(config, option) is not None:
                raise InputError(f"{file.path}: {option}: is not for a watched folder; name an evaluator of the watch")
        folder = posixpath.dirname(chosen)
        if config.device_costs:
            config = config.model_copy(update={"device_costs": self._url(config.device_costs, folder)})
        return {part: inputs[part] and self._url(inputs[part], folder) for part in _DATA}, config

    @staticmethod
    def _checked(file: OptionFile) -> OptionFile:
        """Return the file, with the options that it may not have among its mistakes."""
        found = [
            Mistake((name,), "is for the watch to say, not for a file in its folder; take the line out")
            for name in _OF_THE_WATCH
            if name in file.options
        ]
        kept = {name: value for name, value in file.options.items() if name not in _OF_THE_WATCH}
        return OptionFile(file.path, kept, file.lines, (*file.mistakes, *found))

    def _url(self, path: str, folder: str = "") -> str:
        """Return the URL of a path that a file of the folder gives."""
        if "://" in path or path.startswith("/") or path == RANDOM:
            return path
        scheme, separator, top = self.place.url.rpartition("://")
        return f"{scheme}{separator}{posixpath.normpath(posixpath.join(top, folder, path))}"

    def _referred(self, url: str, form: DataForm | None) -> Reference:
        """Return the reference of data, which are read once a scan, however many models share them."""
        if form is not None:
            return refer(url, form=form)
        if url not in self._data:
            self._data[url] = self.digests.reference(url, refer)
        return self._data[url]
