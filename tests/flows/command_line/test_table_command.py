"""Options of the table on the command line."""

import pytest

from flows.command_line.auto import auto


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ([], None),
        (["--state", "h=hn,c=cn"], "h=hn,c=cn"),
        (["--state", "h=hn", "--state", "c=cn,d=dn"], ["h=hn", "c=cn", "d=dn"]),
    ],
)
def test_an_option_of_several_values_may_be_repeated(words, value):
    assert auto.make_context("auto", ["model.onnx", *words]).params["states"] == value
