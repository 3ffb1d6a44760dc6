"""The manifest's file."""

import json
import math

import pytest

from quant_core.errors import InputError
from quant_core.results.manifest_file import manifest_json, parsed_manifest, read_manifest, sealed, was_changed
from tests.reports import changed, mixed

PLAIN = mixed()[0]


def test_a_score_that_is_no_finite_number_is_null_in_the_manifest():
    changes = {"scores.mixed": {"sqnr_db": math.inf, "l2": 0.5}, "config.list": [math.nan, 1]}
    content = json.loads(manifest_json(changed(PLAIN, changes)))
    assert content["scores"]["mixed"] == {"sqnr_db": None, "l2": 0.5}
    assert content["config"]["list"] == [None, 1]


def test_the_seal_is_of_what_the_file_says():
    manifest = sealed(changed(PLAIN, {"scores.mixed.sqnr_db": math.inf}))
    content = json.loads(manifest_json(manifest))
    assert manifest.digest == content["digest"]
    assert not was_changed(content)
    assert was_changed(content | {"wide": "a16w16"})
    assert not was_changed(json.loads(manifest_json(PLAIN)))  # it has no seal


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("target", {"metric": "l2", "limit": 0.5}, "target.met: Field required"),
        ("narrowed", 3, "narrowed: "),
        ("plan", ["a8w8"], "plan: "),
        ("job", "guess", "job: "),
    ],
)
def test_a_value_that_no_run_writes_is_named_in_one_line(tmp_path, key, value, said):
    content = json.loads(manifest_json(changed(PLAIN, {"tables": {}}))) | {key: value}
    with pytest.raises(InputError) as refused:
        parsed_manifest(json.dumps(content), "here")
    assert str(refused.value).startswith(f"here: is not a manifest of narrowcast: {said}")
    assert "\n" not in str(refused.value)


def test_a_manifest_of_a_later_release_opens(tmp_path):
    content = json.loads(manifest_json(sealed(changed(PLAIN, {"tables": {}}))))
    later = sealed_content(content | {"carbon": {"grams": 3}})
    (tmp_path / "manifest.json").write_text(json.dumps(later))
    assert read_manifest(tmp_path).plan == PLAIN.plan


def sealed_content(content):
    """The same with the digest that a release which knows all its keys gives it."""
    from quant_core.results.manifest_file import _digest

    return content | {"digest": _digest(content)}
