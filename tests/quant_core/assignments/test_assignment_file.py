"""A plan's file: types with names, or a manifest."""

from __future__ import annotations

import json

import pytest

from quant_core.assignments.assignment import Assignment
from quant_core.assignments.assignment_file import read_plan
from quant_core.errors import InputError
from quant_core.execution.progress import watched_by
from quant_core.results.manifest_file import manifest_json, sealed
from tests.reports import changed, mixed
from tests.watching import Said


@pytest.fixture
def read(tmp_path):
    def of_text(text: str):
        (tmp_path / "plan.yaml").write_text(text)
        return read_plan(tmp_path / "plan.yaml")

    return of_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int8: [a, b]\na8w4: ['/c/*']\n", {"int8": ["a", "b"], "a8w4": ["/c/*"]}),
        ("int8: conv1\n", {"int8": ["conv1"]}),
        ("int16:\n  - 12\n  - 007\n  - true\n", {"int16": ["12", "007", "true"]}),
        ('{"int8": ["a"]}', {"int8": ["a"]}),
    ],
    ids=["lists", "one name", "names that look like numbers", "JSON"],
)
def test_types_with_names(read, text, expected):
    assert read(text).assignment == Assignment.of(expected)
    assert read(text).settings == {}


def test_a_manifest_brings_its_settings_but_not_its_target(read):
    config = {"wide": "a16w16", "per_channel": True, "target": {"metric": "l2", "limit": 1}, "search": "bisect"}
    found = read(json.dumps({"plan": {"c1": "a8w8"}, "tensors": {"x": "int8"}, "config": config}))
    assert found.settings == {"wide": "a16w16", "per_channel": True}
    assert found.assignment == Assignment.of({"a8w8": ["layer:c1"], "int8": ["tensor:x"]})


@pytest.mark.parametrize(("change", "said"), [("a8w8", False), ("a8w4", True)])
def test_a_manifest_that_was_changed_after_its_run_is_read_and_it_is_said(read, change, said):
    text = manifest_json(sealed(changed(mixed()[0], {"plan": {"c1": "a8w8"}})))
    with watched_by(log := Said()):
        found = read(text.replace("a8w8", change))
    assert found.assignment == Assignment.of({change: ["layer:c1"]})
    assert ["was changed after its run wrote it" in line for line in log.said] == [True] * said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected types with names"),
        ("- a\n", "expected types with names"),
        ("int8: [a", "is not YAML"),
        ("int8: [a]\nint8: [b]\n", "the key 'int8' comes twice"),
        ("int8: {a: b}\n", "int8: expected names or patterns"),
        ("int8: []\n", "int8: expected names or patterns"),
        ("int8: [[a]]\n", "int8: expected names or patterns"),
        ("int9: [a]\n", "'int9' is neither a type"),
        ('{"plan": {"c1": "int8"}}', "precision 'int8' is not known"),
        ('{"plan": {"c1": "a8w8"}, "tensors": ["x"]}', "is not a manifest of narrowcast"),
        ('{"plan": {"c1": "a8w8"}, "config": "wide"}', "is not a manifest of narrowcast"),
        ("!!python/object/apply:os.system ['true']\n", "is not YAML|expected types"),
    ],
)
def test_what_is_wrong_with_a_file(read, text, message):
    with pytest.raises(InputError, match=rf"plan\.yaml: .*({message})"):
        read(text)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"no\.yaml: cannot be read"):
        read_plan(tmp_path / "no.yaml")
