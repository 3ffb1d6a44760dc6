"""Which outputs are compared."""

import pytest

from quant_core.errors import InputError
from quant_core.scoring.compared import compared_outputs


@pytest.mark.parametrize(
    ("choice", "names"),
    [(0, ("y",)), ("1", ("z",)), ("w", ("w",)), ("all", ("y", "z", "w"))],
    ids=["index", "index-as-text", "name", "all"],
)
def test_outputs_are_chosen_by_index_or_name(workbench, choice, names):
    assert compared_outputs(workbench("several-inputs-and-outputs").graph, choice) == names


@pytest.mark.parametrize("choice", [3, "3", "x", ""], ids=["index", "index-as-text", "an-input", "nothing"])
def test_an_output_that_is_not_there_is_refused_with_those_that_are(workbench, choice):
    with pytest.raises(InputError, match="the model has 0: y, 1: z, 2: w"):
        compared_outputs(workbench("several-inputs-and-outputs").graph, choice)
