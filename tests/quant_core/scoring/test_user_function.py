"""A user's function is found where users put it, and what is wrong with it is one line."""

import math
import sys

import pytest

from quant_core.errors import InputError
from quant_core.scoring.user_function import load_function


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def test_a_users_metric_is_imported_from_the_current_folder(here):
    (here / "my_metric.py").write_text("def score(outputs, labels):\n    return 42.0\n")
    assert load_function("my_metric:score")({}, None) == 42.0


def test_a_users_metric_is_imported_from_an_installed_package():
    assert load_function("math:sqrt") is math.sqrt


@pytest.mark.parametrize(
    ("content", "path"),
    [
        ("", "no_such_module_at_all:score"),
        ("", "my_broken_metric:score"),
        ("x = ", "my_broken_metric:score"),
        ("1 / 0", "my_broken_metric:score"),
        ("score = 3", "my_broken_metric:score"),
        ("", "my_broken_metric:"),
    ],
    ids=["no module", "no function", "syntax error", "fails on import", "no function but a number", "no name"],
)
def test_a_users_metric_that_cannot_be_used(here, content, path):
    (here / "my_broken_metric.py").write_text(content)
    with pytest.raises(InputError, match=f"^{path}: (cannot be imported|is not a function)") as caught:
        load_function(path)
    assert "\n" not in str(caught.value)
