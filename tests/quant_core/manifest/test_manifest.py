"""The manifest keeps the JSON that runs have written."""

import json
import math

import pytest
from pydantic import ValidationError

from quant_core.errors import InputError
from quant_core.manifest import Costs, Manifest

COST = {"unit": "bytes", "wide": 984.0, "mixed": 492.0, "saved": 0.5}
SCORES = {"l2": 0.006253817222272721, "sqnr_db": 39.05419278759074, "kl": 3.14e-06, "cosine": 4.3e-05}
AUTO = {
    "narrowcast": "0.1.0",
    "job": "auto",
    "input": {"sha256": "1" * 64},
    "output": {"sha256": "2" * 64, "bytes": 5183},
    "wide": "a16w16",
    "narrow": ["a8w8"],
    "target": {"metric": "l2", "limit": 0.1, "function": None, "met": True, "confidence": None},
    "budget": None,
    "scores": {"float": {}, "wide": SCORES, "mixed": SCORES, "holdout": {}},
    "standard_errors": {"float": {}, "wide": {"l2": 2.46e-06}, "mixed": {"l2": 0.00075}},
    "samples": {"evaluation": 8, "holdout": None},
    "plan": {"c1": "a8w8", "a.b/c": "a16w16"},
    "tensors": {},
    "narrowed": {"layers": 1, "of": 2, "macs_share": 0.5, "bops_ratio": 0.25},
    "costs": {"objective": "bops", "bops": COST, "bytes": COST, "activation-bytes": COST},
    "latency": None,
    "work": {"probes": 0, "probe_samples": 0, "evaluations": 2, "cached_steps": 0, "computed_steps": 9},
    "seconds": {"prepare": 0.011, "calibrate": 0.002},
    "data": {"calibration": "3" * 64, "evaluation": "4" * 64, "holdout": None},
    "sources": {"model": "model.onnx", "calibration": "c.npz", "evaluation": "e.npz", "output": "out"},
    "config": {"narrow": ["a8w8"], "search": "go-on", "max_bops": None, "percentile": 99.999, "target": {"limit": 0.1}},
    "environment": {"python": "3.11.2", "machine": "x86_64", "onnx": "1.23.2"},
    "tables": {"layers": "5" * 64},
    "digest": "6" * 64,
}
"""A search for a target, as 0.1.0 wrote it."""

CASES = {
    "auto": {},
    "confidence": {
        "target": AUTO["target"]
        | {"confidence": 0.9, "bound": 0.0086, "looks": 2, "holdout": {"bound": 0.0062, "met": True}}
        | {"undecided": {"plan": "7" * 32, "cost_ratio": 0.5, "score": 0.09, "bound": 0.11, "samples": None}}
    },
    "confidence without held-out data": {
        "target": AUTO["target"] | {"confidence": 0.9, "bound": None, "looks": 1, "holdout": None, "undecided": None}
    },
    "budget": {
        "target": AUTO["target"] | {"limit": None},
        "budget": {"cost": "bops", "asked": "0.6", "unit": "bit operations", "limit": 2779545.6}
        | {"spent": 1536000.0, "share": 0.33, "met": True},
    },
    "holdout": {
        "scores": AUTO["scores"] | {"holdout": SCORES},
        "standard_errors": AUTO["standard_errors"] | {"holdout": {"l2": 0.0009}},
        "samples": {"evaluation": 8, "holdout": 5},
        "data": AUTO["data"] | {"holdout": "8" * 64},
        "sources": {"model": "model.onnx", "evaluation": "e.npz", "holdout": "h.npz", "output": "s3://bucket/out"},
    },
    "a user's metric": {
        "target": AUTO["target"] | {"metric": "metric_drop", "function": "pkg.mod:fn"},
        "scores": {"float": {"top1": 0.5, "metric": 0.88}, "wide": {"metric_drop": -0.004}, "mixed": {}, "holdout": {}},
    },
    "layer-wise": {"job": "layer-wise", "tensors": {"x": "int8"}, "config": {"wide": "a16w16"}},
    "timed, and large": {
        "latency": {"unit": "ms", "threads": 1, "float": 2.5, "wide": 2.0, "mixed": 1.25, "speedup": 2.0},
        "output": AUTO["output"] | {"external_data": {"model.onnx.data": "9" * 64}},
        "costs": AUTO["costs"] | {"objective": "latency", "latency": COST},
    },
    "pick": {
        "job": "pick",
        "sources": AUTO["sources"] | {"run": "out"},
        "picked_from": "2" * 64,
    },
    "a score that was not finite": {"scores": AUTO["scores"] | {"mixed": SCORES | {"sqnr_db": None}}},
}


@pytest.mark.parametrize("case", CASES)
def test_the_json_is_read_and_written_again_key_for_key(case):
    content = AUTO | CASES[case]
    written = Manifest.model_validate(content).model_dump(mode="json")
    assert json.dumps(written) == json.dumps(content)


OPTIONAL = ["job", "budget", "standard_errors", "samples", "tensors", "costs", "latency", "work", "seconds", "data"]


@pytest.mark.parametrize("key", [*OPTIONAL, "sources", "environment"])
def test_a_manifest_of_an_earlier_release_may_lack_a_key(key):
    content = {name: value for name, value in AUTO.items() if name != key}
    manifest = Manifest.model_validate(content)
    assert manifest.model_dump(mode="json") == content
    assert manifest.standard_errors.of("mixed").get("l2") in (None, 0.00075)


@pytest.mark.parametrize(
    "key", ["narrowcast", "input", "output", "wide", "narrow", "target", "scores", "plan", "config"]
)
def test_what_every_release_wrote_must_be_there(key):
    with pytest.raises(ValidationError, match=key):
        Manifest.model_validate({name: value for name, value in AUTO.items() if name != key})


def test_numbers_that_are_not_finite_stay_until_they_are_written():
    scores = AUTO["scores"] | {"mixed": {"sqnr_db": math.inf}}
    manifest = Manifest.model_validate(AUTO | {"scores": scores})
    assert manifest.scores.mixed["sqnr_db"] == math.inf
    assert manifest.model_dump(mode="json")["scores"]["mixed"] == {"sqnr_db": math.inf}


def test_a_manifest_never_changes():
    manifest = Manifest.model_validate(AUTO)
    with pytest.raises(ValidationError):
        manifest.wide = "a8w8"
    with pytest.raises(ValidationError):
        manifest.target.met = False


def test_costs_are_found_by_name():
    costs = Costs.model_validate(AUTO["costs"])
    assert costs.of("activation-bytes").mixed == 492
    with pytest.raises(InputError, match="did not count the cost latency"):
        costs.of("latency")
