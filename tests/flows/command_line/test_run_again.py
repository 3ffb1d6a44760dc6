"""The command that a report shows gives the configuration of its run: report -> command line -> configuration."""

import shlex
import subprocess
from functools import cache
from itertools import pairwise, permutations
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.command_line.auto import auto
from flows.command_line.auto import inputs_and_config as asked_of_auto
from flows.command_line.layer_wise import inputs_and_config as asked_of_layer_wise
from flows.command_line.layer_wise import layer_wise
from quant_core.budget import BUDGETS
from quant_core.config import LayerWiseConfig, MixedPrecisionConfig, RunConfig
from quant_core.config.criterion import OWN_METRICS
from quant_core.config.evaluator import EvaluatorConfig
from quant_core.config.written_format import why_not_written
from quant_core.manifest import Manifest
from quant_core.model.operators import LayerOp
from quant_core.options import LIMITS, options_of
from quant_core.precision import Precision
from quant_core.report.reproduce import command
from quant_core.results.manifest_file import manifest_json, sealed
from tests.reports import mixed

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
"""Names with anything that a command line can hold: spaces, quotes, commas, brackets, line ends, dashes."""
PATHS = NAMES.filter(bool)
RUNGS = ["float32", "float16", "bfloat16", "a16w16", "a16w8", "au16wu8", "a16w4", "a8w8", "au8w8", "a8w4", "au8wu4"]
PRECISIONS = st.sampled_from([Precision.parse(text) for text in RUNGS])
LADDERS = [
    ladder
    for rungs in (2, 3)
    for ladder in permutations([Precision.parse(text) for text in RUNGS], rungs)
    if all(below.narrower_than(above) for above, below in pairwise(ladder))
]
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
SHARES = st.floats(0, 1, exclude_min=True)
OWN = {"narrow", "wide", "percentile", "power_of_two_rounding", "calibrate_weights", "target", *BUDGETS}
OWN |= {"also", "device_costs", "timer", "timer_limit", "lift", *EvaluatorConfig.model_fields}
"""Fields that are drawn together, since they depend on each other."""


def alone(option):
    """Draws values of a field from what the table says of it."""
    drawn = {
        "layer_ops": st.lists(st.sampled_from(get_args(LayerOp)), min_size=1, max_size=4),
        "output": st.integers(-3, 99) | NAMES,
        "samples": st.sampled_from(["auto", "all"]) | st.integers(2),
        "providers": st.lists(NAMES, min_size=1, max_size=3),
        "block_size": st.none() | st.sampled_from([16, 32, 1024]),
        "image_size": st.none() | st.integers(1, 99999) | st.sampled_from(["224x320", "1x1"]),
        "image_crop": SHARES,
        "mean": st.lists(NUMBERS, max_size=3),
        "std": st.lists(st.floats(0, exclude_min=True, allow_infinity=False, allow_nan=False), max_size=3),
        "label_column": PATHS,
        "random_samples": st.integers(1, 1_000_000),
    }
    if option.name in drawn:
        return drawn[option.name]
    if option.choices:
        return st.sampled_from(option.choices)
    if option.is_list:
        return st.lists(NAMES, max_size=3)
    values = {bool: st.booleans(), int: st.integers(1)}[option.type]
    return values if option.field.default is not None else st.none() | values


@st.composite
def targets(draw, with_limit):
    metric = draw(st.sampled_from([*LIMITS.values()]))
    limit = draw(NUMBERS) if with_limit else None
    function = "pkg.mod:fn" if metric == "metric_drop" else None
    sure = draw(st.none() | st.floats(0.5, 1, exclude_max=True)) if with_limit and not function else None
    return {"metric": metric, "limit": limit, "function": function, "confidence": sure}


@st.composite
def measured(draw, with_limit):
    """Draws a target, and the evaluator that it may need."""
    target, options = (
        draw(targets(with_limit)),
        {name: field.default for name, field in EvaluatorConfig.model_fields.items()},
    )
    if target["metric"] in OWN_METRICS and draw(st.booleans()):
        options |= {"evaluate_command": draw(PATHS), "evaluate_timeout": draw(st.floats(1, 1e6))}
    elif target["metric"] in OWN_METRICS:
        options |= {"evaluator": "pkg.mod:fn", "evaluator_path": draw(st.none() | PATHS)}
    further = draw(st.none() | targets(True)) if target["limit"] is not None else None
    apart = further and not {further["metric"], target["metric"]} & {"metric_drop", *OWN_METRICS}
    if not apart or further["metric"] == target["metric"]:
        return {"target": target, "also": (), **options}
    return {"target": target, "also": [further | {"confidence": target["confidence"]}], **options}


@cache  # making strategies takes longer than drawing from them
def drawn_alone(kind):
    return {row.name: alone(row) for row in options_of(kind) if row.name not in OWN}


@st.composite
def runs(draw, kind):
    """Draws every field that all runs have."""
    options = {name: draw(strategy) for name, strategy in drawn_alone(kind).items()}
    calibrate, pow2 = options["calibrate"], options["calibrate"].startswith("pow2")
    options["wide"] = draw(PRECISIONS)
    options["percentile"] = draw(st.floats(50, 100, exclude_min=True)) if calibrate == "percentile" else 99.999
    options["power_of_two_rounding"] = draw(st.sampled_from(["up", "nearest"])) if pow2 else "up"
    options["calibrate_weights"] = "minmax" if pow2 else draw(st.sampled_from(["minmax", "mse"]))
    if pow2 and options["round_weights"] == "hqq":  # which fits scales
        options["round_weights"] = "auto"
    options["device_costs"] = draw(st.none() | PATHS) if options["cost"] == "latency" else None
    timed = options["time_models"] or options["cost"] == "latency"
    options["timer"] = draw(st.none() | st.just("pkg.mod:fn")) if timed else None
    options["timer_limit"] = draw(st.none() | st.just("board")) if options["timer"] else None
    if options["byte_sums"] == "exact":  # which integer operators of int8 activations refuse
        options["format"] = "qdq"
    if options["biases"] in ("float32", "float16", "small"):  # which have no codes to correct
        options["correct_bias"] = False
    if options["dual_pairs"]:  # with which every tensor has a wide pair
        options["others"] = "wide"
    return options


def in_a_form(options):
    """The options with pairs in place of a form that nothing can be written in."""
    ladder = [options["wide"], *options.get("narrow", ())]
    asked = [options[name] for name in ("format", "runtime", "block_size", "layer_ops")]
    timed = (options["cost"] == "latency" or bool(options.get("max_latency"))) and options["device_costs"] is None
    why = why_not_written(*asked[:2], ladder, *asked[2:], timed)
    return options | {"format": "qdq"} if why else options


@st.composite
def layer_wise_configs(draw):
    options = in_a_form(draw(runs(LayerWiseConfig))) | draw(measured(draw(st.booleans())))
    assert options.keys() == LayerWiseConfig.model_fields.keys()
    return LayerWiseConfig.model_validate(options)


@st.composite
def mixed_precision_configs(draw):
    options = draw(runs(MixedPrecisionConfig))
    chosen = draw(st.sampled_from(LADDERS))
    options["wide"], *options["narrow"] = chosen
    if all(precision.weights.bits != 4 for precision in chosen):
        options["block_size"] = None
    if options["byte_sums"] == "exact":  # which integer operators of int8 activations refuse
        options["format"] = "qdq"
    amounts = {
        "max_bops": SHARES,
        "max_bytes": SHARES | st.builds("{}{}".format, st.floats(1e-3, 1e12), st.sampled_from(["B", "kB", "MiB"])),
        "max_latency": SHARES | st.builds("{}{}".format, st.floats(1e-3, 1e12), st.sampled_from(["us", "ms", "s"])),
    }
    options |= dict.fromkeys(BUDGETS)
    limited = draw(st.booleans())
    by_budget = draw(st.booleans())
    if options["search"] not in ("linear", "bisect") or options["frontier"] or by_budget:
        options["most_layers"] = None
    if options["search"] not in ("linear", "bisect"):
        options["order"] = ()
    if options["order"] or options["most_layers"]:
        options["blocks"] = ()
    if by_budget or not (limited or options["most_layers"]):
        budgets = sorted(draw(st.sets(st.sampled_from([*BUDGETS]), min_size=1)))
        cost = draw(st.sampled_from([BUDGETS[name] for name in budgets]))
        options |= {name: draw(amounts[name]) for name in budgets} | {"cost": cost, "most_layers": None}
        options["device_costs"] = draw(st.none() | PATHS) if "max_latency" in budgets else None
    if not options["time_models"] and options["cost"] != "latency" and options["max_latency"] is None:
        options["timer"] = options["timer_limit"] = None
    options["lift"] = None
    if not any(options[name] for name in BUDGETS) and not options["most_layers"]:
        above = [ladder[::-1] for ladder in LADDERS if ladder[-1] == chosen[0]]
        options["lift"] = draw(st.none() | st.sampled_from([(), *(ladder[1:] for ladder in above)]))
    options = in_a_form(options) | draw(measured(limited))
    assert options.keys() == MixedPrecisionConfig.model_fields.keys()
    return MixedPrecisionConfig.model_validate(options)


def manifest_of(config: RunConfig, job: str, sources: dict[str, str]) -> Manifest:
    """The manifest of a run of such a configuration, as far as the report's command goes by it."""
    data = dict.fromkeys(("calibration", "evaluation", "holdout"), "3" * 64)
    written = config.model_dump(mode="json")
    manifest, _ = mixed()
    changes = {"job": job, "config": written, "sources": sources, "data": data}
    also = [
        {**{name: one[name] for name in ("metric", "limit", "function")}, "met": True, "bound": 0.0}
        for one in written["also"]
    ]
    changes["target"] = {**written["target"], "met": True, "also": also}
    return Manifest.model_validate({**manifest.model_dump(mode="json"), **changes})


def words_of(shown: str) -> list[str]:
    """The arguments that a shell makes of a command of several lines."""
    return shlex.split(shown.replace(" \\\n    ", " "))


def parsed(command_, asked, words):
    """Inputs and configuration that the real command finds in its arguments; nothing is run."""
    given = command_.make_context("narrowcast", words[2:]).params
    return asked(given.pop("config"), {name: given[name] for name in given if name not in ("as_json", "dry_run")})


def as_given(path: str) -> str:
    return f"./{path}" if path.startswith("-") else path


PLACES = st.fixed_dictionaries(dict.fromkeys(("model", "calibration", "evaluation", "holdout", "output"), PATHS))


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(config=mixed_precision_configs(), sources=PLACES)
def test_the_command_of_a_run_gives_its_configuration(config, sources):
    words = words_of(command(manifest_of(config, "auto", sources)))
    inputs, again = parsed(auto, asked_of_auto, words)
    assert again == config
    places = {name: inputs["out" if name == "output" else name] for name in sources}
    assert places == sources | {"model": as_given(sources["model"])}


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(config=layer_wise_configs(), model=PATHS)
def test_the_command_of_a_layer_wise_run_gives_its_configuration(tmp_path_factory, config, model):
    folder = tmp_path_factory.getbasetemp() / "a run's folder"
    folder.mkdir(exist_ok=True)
    manifest = manifest_of(config, "layer-wise", {"model": model, "output": str(folder)})
    (folder / "manifest.json").write_text(manifest_json(sealed(manifest)))
    inputs, again = parsed(layer_wise, asked_of_layer_wise, words_of(command(manifest)))
    assert again == config
    assert inputs["model"] == as_given(model)


@pytest.mark.parametrize("name", ['it\'s a "name"', "two\nlines", "a,b", "$HOME `x` \\ !", "é* [a]", "-dash"])
def test_a_real_shell_reads_the_command_alike(name):
    config = MixedPrecisionConfig(target={"metric": "kl", "limit": 0.1 + 0.2}, exclude=[name, "b,c"], output=name)
    sources = dict.fromkeys(("model", "calibration", "evaluation", "holdout", "output"), name)
    shown = command(manifest_of(config, "auto", sources))
    script = f"narrowcast() {{ printf '%s\\0' narrowcast \"$@\"; }}\n{shown}"
    words = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split("\0")[:-1]
    assert words == words_of(shown)
    assert parsed(auto, asked_of_auto, words)[1] == config
