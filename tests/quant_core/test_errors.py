"""What each error means to whoever catches it."""

import pickle

import pytest

from quant_core.errors import InputError, NarrowcastError, OutageError, TargetError, UnsupportedError


@pytest.mark.parametrize("kind", [InputError, TargetError, UnsupportedError])
def test_every_error_is_caught_as_a_narrowcast_error(kind):
    with pytest.raises(NarrowcastError, match="^why$"):
        raise kind("why")


@pytest.mark.parametrize("kind", [InputError, TargetError, UnsupportedError, OutageError])
def test_what_may_be_secret_in_a_url_is_not_in_the_text(kind):
    error = kind("https://me:secret@host/m.onnx?key=secret: no such file")
    assert str(error) == "https://host/m.onnx no such file"
    assert "secret" not in repr(pickle.loads(pickle.dumps(error)))


def test_unsupported_is_also_pythons_own_not_implemented():
    with pytest.raises(NotImplementedError):
        raise UnsupportedError("not built")


def test_a_missed_target_is_not_bad_input():
    assert not issubclass(TargetError, InputError)


def test_a_missed_target_carries_the_outcome_beside_its_text():
    outcome = object()
    error = TargetError("missed by 1", outcome)
    assert error.outcome is outcome
    assert str(error) == "missed by 1"
