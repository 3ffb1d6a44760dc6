"""Where a run's result comes from: files, data, and the work that was done."""

from __future__ import annotations

from collections.abc import Mapping

from quant_core.manifest.record import Record

__all__ = ["Data", "Input", "Output", "Samples", "Sources", "Work"]


class Input(Record):
    """The float model."""

    sha256: str
    """Digest of its file."""


class Output(Record):
    """The shipped model."""

    sha256: str
    """Digest of its file."""
    bytes: int
    """Size of the file and of all files beside it."""
    external_data: Mapping[str, str] = {}
    """Digests of the files beside it, by name; not given where there are none."""


class Samples(Record):
    """How many samples the shipped file was measured on."""

    evaluation: int = 0
    """Of the evaluation data; 0 where an earlier release did not say."""
    holdout: int | None = None
    """Of held-out data; None where there is none."""


class Work(Record):
    """What was computed."""

    probes: int = 0
    """Layers that were narrowed alone, once for each precision."""
    probe_samples: int = 0
    """Samples that all probes took together."""
    evaluations: int = 0
    """Plans that were scored."""
    cached_steps: int = 0
    """Steps whose result was there from an earlier run."""
    computed_steps: int = 0
    """Steps that were computed."""


class Data(Record):
    """Digests of the data."""

    calibration: str | None = None
    """Data that ranges were chosen from."""
    evaluation: str | None = None
    """Data that plans were scored on."""
    holdout: str | None = None
    """Data that only the shipped file was measured on; None where there is none."""
    random: tuple[str, ...] = ()
    """Those of them that are random samples: a dry run, which says nothing about accuracy."""


class Sources(Record):
    """Paths and URLs as the user wrote them, without what may be secret; not given for what was in memory."""

    model: str | None = None
    """The float model."""
    calibration: str | None = None
    """Data that ranges were chosen from."""
    evaluation: str | None = None
    """Data that plans were scored on."""
    holdout: str | None = None
    """Data that only the shipped file was measured on."""
    output: str | None = None
    """The output folder."""
    run: str | None = None
    """The run that the model was picked from."""
