"""Options of a run, from flags and from a file, as the engine's configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from flows.options.inputs import AutoInputs
from flows.options.option_file import OptionFile, read_option_file
from quant_core.budget import BUDGETS
from quant_core.config import Config, MixedPrecisionConfig, RunConfig
from quant_core.config.criterion import OWN_METRICS
from quant_core.config.evaluator import EvaluatorConfig
from quant_core.errors import InputError
from quant_core.options import LIMITS, OF_THE_TARGET, listed, options_of
from quant_core.validation import Mistake, MistakesError, mistakes_in
from tasks.executors.choice import ExecutorChoice

__all__ = [
    "INPUTS",
    "LIMITS",
    "OF_THE_TARGET",
    "REQUIRED",
    "check_kinds",
    "configuration",
    "joined",
    "options_from_file",
    "ranking_options",
    "required_of",
    "run_options",
]

INPUTS = tuple(AutoInputs.model_fields)
"""What `narrowcast auto` is given besides its configuration."""


def required_of(kind: type[BaseModel]) -> tuple[str, ...]:
    """Return the inputs that have no default."""
    return tuple(name for name, field in kind.model_fields.items() if field.is_required())


REQUIRED = required_of(AutoInputs)


def options_from_file(path: str | None, kind: type[RunConfig], inputs: Sequence[str] = INPUTS) -> OptionFile:
    """Options from a YAML file, by their long names with underscores, and what is wrong with those names."""
    known = [*inputs, *LIMITS, *OF_THE_TARGET, *kind.model_fields]
    return OptionFile("") if path is None else read_option_file(path, known)


def joined(file: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a file with those of the command line over them. A target or a budget there replaces the one here."""
    kept = dict(file)
    if given.keys() & LIMITS.keys():
        kept = {name: value for name, value in kept.items() if name not in (*LIMITS, "target", "also")}
        if "max_metric_drop" not in given:
            kept.pop("metric", None)
        if not any(LIMITS[name] in OWN_METRICS for name in given.keys() & LIMITS.keys()):
            kept = {name: value for name, value in kept.items() if name not in EvaluatorConfig.model_fields}
    if given.keys() & BUDGETS.keys():
        kept = {name: value for name, value in kept.items() if name not in BUDGETS}
    return kept | dict(given)


def run_options(
    file: OptionFile,
    given: Mapping[str, Any],
    kind: type[Config],
    names: Sequence[str] = INPUTS,
    required: Sequence[str] = REQUIRED,
) -> tuple[dict[str, Any], Config]:
    """Inputs and configuration of a run; raises MistakesError with all that is wrong, with lines of the file."""
    options = joined(file.options, given)
    inputs = {name: options.pop(name, None) for name in names}
    config, wrong = _configuration(options, kind)
    mistakes = [*file.mistakes, *_not_filled_in(inputs, required), *_kind_mistakes(inputs), *wrong]
    if config is None or mistakes:
        in_file = [mistake for mistake in mistakes if file.path and not set(mistake.place[:1]) & given.keys()]
        others = [mistake for mistake in mistakes if mistake not in in_file]
        raise MistakesError([*others, *map(file.located, sorted(in_file, key=file.line))])
    return inputs, config


def ranking_options(path: str) -> dict[str, Any]:
    """Options of a ranking file, without those left empty; raises MistakesError with lines of the file."""
    file = read_option_file(path, ["keep_wide", "exclude", "order"])
    if file.mistakes:
        raise MistakesError([file.located(mistake) for mistake in file.mistakes])
    return {name: value for name, value in file.options.items() if value}


def check_kinds(inputs: dict[str, Any]) -> None:
    """A file may hold anything, the command line has checked its own; raises MistakesError."""
    if mistakes := _kind_mistakes(inputs):
        raise MistakesError(mistakes)


def _not_filled_in(inputs: dict[str, Any], required: Sequence[str]) -> list[Mistake]:
    what = {name: "the path of a model" if name == "model" else "the path of a file or folder" for name in required}
    return [Mistake((name,), f"is not filled in; give {what[name]}") for name in required if not inputs[name]]


def _kind_mistakes(inputs: dict[str, Any]) -> list[Mistake]:
    found = []
    for name, value in inputs.items():
        if name == "workers":
            if value is not None and (type(value) is not int or value < 1):
                found.append(Mistake((name,), f"must be a number of threads, not {value!r}"))
        elif value is not None and not isinstance(value, str):
            found.append(Mistake((name,), f"must be a path, not {value!r}"))
    return found or _runner_mistakes(inputs)


def _runner_mistakes(inputs: dict[str, Any]) -> list[Mistake]:
    try:
        ExecutorChoice(inputs.get("runner") or "thread", inputs.get("runner_address"))
    except InputError as error:
        return [Mistake(("runner",), str(error).removeprefix("runner: "))]
    return []


def configuration(options: dict[str, Any]) -> MixedPrecisionConfig:
    """The run's configuration from flat options; raises MistakesError with all that is wrong."""
    from quant_core.config import MixedPrecisionConfig

    config, mistakes = _configuration(options, MixedPrecisionConfig)
    if config is None:
        raise MistakesError(mistakes)
    return config


def _criterion(options: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the target that the option of a limit sets, as the configuration has it."""
    return {
        "metric": LIMITS[name],
        "limit": options[name],
        "function": options.get("metric") if name == "max_metric_drop" else None,
        "confidence": options.get("confidence"),
    }


def _configuration(options: dict[str, Any], kind: type[Config]) -> tuple[Config | None, list[Mistake]]:
    chosen = [flag for flag in LIMITS if options.get(flag) is not None]
    nested = {name: value for name, value in options.items() if name not in (*LIMITS, *OF_THE_TARGET)}
    limited = kind.model_fields["target"].is_required() and not _says_how_narrow(options)
    found = _target_mistakes(options, chosen, limited)
    best = None if limited else _measured_by(options, chosen)
    if chosen:
        nested["target"], *also = [_criterion(options, name) for name in chosen]
        nested["also"] = also or nested.get("also", [])
        if chosen[0] == "max_metric_drop" and any(mistake.place != () for mistake in found):
            nested["target"]["function"] = "a:b"  # what is wrong with it has been said
    elif best is not None:
        nested["target"] = best
    elif "target" not in nested and found:
        nested["target"] = _STAND_IN
    for option in options_of(kind):
        if option.is_list and isinstance(nested.get(option.name), str):
            nested[option.name] = listed(nested[option.name])
    for mistake in mistakes_in(kind, nested, {"target": _STAND_IN} | dict.fromkeys(BUDGETS, 1.0)):
        found.append(Mistake(_flat(mistake.place, chosen or ["metric"] * (best is not None)), mistake.message))
    return None if found else kind.model_validate(nested), found


def _flat(place: tuple[str | int, ...], chosen: list[str]) -> tuple[str | int, ...]:
    """Return the place of a mistake in the flat options: a target's limit is that of --max-l2, say."""
    if chosen and place[:1] == ("also",) and len(place) > 1:
        return (chosen[1 + int(place[1])],)
    if not chosen or place[:1] != ("target",):
        return place
    return {"function": ("metric",), "confidence": ("confidence",)}.get(str(place[-1]), (chosen[0],))


def _measured_by(options: Mapping[str, Any], chosen: list[str]) -> dict[str, Any] | None:
    """Return the target without a limit that `metric` alone asks for; None where there is none."""
    metric = options.get("metric")
    if chosen or "target" in options or metric is None:
        return None
    return {"metric": "metric_drop", "function": metric} if ":" in str(metric) else {"metric": metric}


def _says_how_narrow(options: Mapping[str, Any]) -> bool:
    """Return whether something else than a limit says where the search ends."""
    return any(options.get(name) is not None for name in (*BUDGETS, "most_layers"))


_STAND_IN = {"metric": "l2", "limit": 1.0}


def _target_mistakes(options: Mapping[str, Any], chosen: list[str], limited: bool) -> list[Mistake]:
    """Return what is wrong with how a target is asked for; `limited` says that it needs a limit."""
    found, written_out = [], "target" in options
    flags = _flags(LIMITS)
    if chosen and written_out:
        found.append(Mistake((chosen[-1],), f"the target is written out: give it there, or as flags ({flags})"))
    elif limited and not chosen and not written_out:
        found.append(Mistake((), f"give one target: {flags}; or a budget: {_flags(BUDGETS)}"))
    if written_out and options.get("confidence") is not None:
        found.append(Mistake(("confidence",), "write it inside target, where the target is written out"))
    elif not limited and not chosen and not written_out and options.get("confidence") is not None:
        found.append(Mistake(("confidence",), f"needs a target to meet; give one: {flags}"))
    if not limited and not chosen and not written_out:
        return found  # there the metric needs no limit
    return [*found, *_metric_mistakes(options.get("metric"), chosen)]


def _metric_mistakes(function: Any, chosen: list[str]) -> list[Mistake]:
    """Return what is wrong with a function of the user's, where a limit is given."""
    if (function is None) == ("max_metric_drop" in chosen):
        place = ("max_metric_drop",) if function is None else ("metric",)
        return [Mistake(place, "--max-metric-drop and --metric pkg.mod:fn go together")]
    if isinstance(function, str) and ":" not in function:
        return [Mistake(("metric",), f"--metric {function}: write it as pkg.mod:fn, the module and the function")]
    return []


def _flags(names: Iterable[str]) -> str:
    return ", ".join("--" + name.replace("_", "-") for name in names)
