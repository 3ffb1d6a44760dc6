"""The manifest's file."""

import json
import math

from quant_core.results.manifest_file import manifest_json


def test_a_score_that_is_no_finite_number_is_null_in_the_manifest():
    text = manifest_json({"scores": {"mixed": {"sqnr_db": math.inf, "l2": 0.5}}, "list": [math.nan, 1]})
    assert json.loads(text) == {"scores": {"mixed": {"sqnr_db": None, "l2": 0.5}}, "list": [None, 1]}
