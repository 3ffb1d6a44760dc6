"""Options of a run, from flags and from a file, as the engine's configuration."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quant_core.config import MixedPrecisionConfig

__all__ = ["INPUTS", "LIMITS", "check_kinds", "configuration", "joined", "options_from_file"]

LIMITS = {
    "max_top1_drop": "top1_drop",
    "max_l2": "l2",
    "min_sqnr": "sqnr_db",
    "max_kl": "kl",
    "max_metric_drop": "metric_drop",
}
INPUTS = ("model", "calibration", "evaluation", "holdout", "out", "workers", "workspace", "runner", "runner_address")


def options_from_file(path: str | None) -> dict[str, Any]:
    """Options from a YAML file, by their long names with underscores."""
    if path is None:
        return {}
    import yaml

    from quant_core.config import MixedPrecisionConfig
    from quant_core.errors import InputError

    try:
        content = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected options like `narrow: a8w8`, one a line")
    options = {str(name).replace("-", "_"): value for name, value in content.items()}
    known = [*INPUTS, *LIMITS, "metric", *MixedPrecisionConfig.model_fields]
    for name in options:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise InputError(f"{path}: {name} is not an option; {hint}")
    return options


def joined(file: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Options of a file with those of the command line over them. A target there replaces the whole one here."""
    if given.keys() & LIMITS.keys():
        file = {name: value for name, value in file.items() if name not in (*LIMITS, "target")}
        if "max_metric_drop" not in given:
            file.pop("metric", None)
    return file | given


def check_kinds(inputs: dict[str, Any]) -> None:
    """A file may hold anything, the command line has checked its own."""
    from quant_core.errors import InputError
    from tasks.runner import Runner

    for name, value in inputs.items():
        if name == "workers":
            if value is not None and (type(value) is not int or value < 1):
                raise InputError(f"workers: must be a number of threads, not {value!r}")
        elif value is not None and not isinstance(value, str):
            raise InputError(f"{name}: must be a path, not {value!r}")
    Runner(inputs["runner"] or "thread", inputs["runner_address"])


def configuration(options: dict[str, Any]) -> MixedPrecisionConfig:
    """The run's configuration from flat options."""
    from quant_core.config import config_from
    from quant_core.errors import InputError

    chosen = [flag for flag in LIMITS if options.get(flag) is not None]
    if len(chosen) != 1 and "target" not in options:
        flags = ", ".join("--" + flag.replace("_", "-") for flag in LIMITS)
        raise InputError(f"give one target: {flags}" + (f" (not {len(chosen)} of them)" if chosen else ""))
    limits = {flag: options.pop(flag, None) for flag in LIMITS}
    function = options.pop("metric", None)
    if (function is None) == ("max_metric_drop" in chosen) and "target" not in options:
        raise InputError("--max-metric-drop and --metric pkg.mod:fn go together")
    if isinstance(function, str) and ":" not in function:
        raise InputError(f"--metric {function}: write it as pkg.mod:fn, the module and the function in it")
    if chosen:
        options["target"] = {"metric": LIMITS[chosen[0]], "limit": limits[chosen[0]], "function": function}
    if isinstance(options.get("narrow"), str):
        options["narrow"] = [part.strip() for part in options["narrow"].split(",")]
    if str(options.get("samples", "")).isdecimal():
        options["samples"] = int(options["samples"])
    return config_from(**options)
