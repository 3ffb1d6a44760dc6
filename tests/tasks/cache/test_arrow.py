"""What Prefect stores of a step, and reads again."""

from __future__ import annotations

import json
import pickle

import pyarrow as pa
import pytest
from prefect.serializers import Serializer

from quant_core.errors import InputError, NarrowcastError
from quant_core.storage.tables import facts, to_ipc, with_facts
from tasks.cache.arrow import ArrowSerializer


def test_a_table_comes_back_with_its_facts():
    table = with_facts(pa.table({"a": [1, 2], "b": ["x", None]}), key="k")
    again = ArrowSerializer().loads(to_ipc(table))
    assert again.equals(table) and facts(again) == {"key": "k"}


def test_a_table_is_not_written_a_second_time():
    assert ArrowSerializer().dumps(pa.table({"a": [1]})) == b""


def test_a_failure_is_stored_as_json_and_comes_back_as_a_failure():
    data = ArrowSerializer().dumps(ValueError("too wide"))
    assert json.loads(data) == {"error": "ValueError", "message": "too wide"}
    failure = ArrowSerializer().loads(data)
    assert isinstance(failure, NarrowcastError) and str(failure) == "ValueError: too wide"


@pytest.mark.parametrize(
    "data",
    [pickle.dumps({"a": 1}), b"ARROW1 but not really", b"", b"\x80\x04."],
    ids=["pickle", "torn", "empty", "stop"],
)
def test_foreign_bytes_are_refused(data):
    with pytest.raises((InputError, ValueError)):
        ArrowSerializer().loads(data)


def test_prefect_finds_the_serializer_by_its_type():
    assert isinstance(Serializer(type="arrow"), ArrowSerializer)
