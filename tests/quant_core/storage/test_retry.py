"""Which failures of a store are waited for, and for how long."""

from __future__ import annotations

import errno
from itertools import islice

import pytest

from quant_core.errors import InputError, OutageError
from quant_core.storage import retry
from quant_core.storage.retry import may_pass, patiently, pauses


class Answered(Exception):
    """A server's answer, as libraries of stores raise it."""

    def __init__(self, status):
        self.status = status


class NoCredentialsError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError(errno.EIO, "i/o"), True),
        (ConnectionResetError(errno.ECONNRESET, "reset"), True),
        (TimeoutError(), True),
        (Answered(503), True),
        (Answered(429), True),
        (Exception("of a library"), True),
        (Answered(403), False),
        (OSError(errno.ENOSPC, "full"), False),
        (FileNotFoundError(errno.ENOENT, "gone"), False),
        (PermissionError(errno.EACCES, "denied"), False),
        (InputError("bad"), False),
        (ValueError("bad"), False),
        (MemoryError(), False),
        (NoCredentialsError(), False),
        (KeyboardInterrupt(), False),
    ],
    ids=lambda value: f"{type(value).__name__} {value}" if isinstance(value, BaseException) else "",
)
def test_what_may_pass(error, passes):
    assert may_pass(error) is passes


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only while something sleeps."""
    now = [0.0]
    monkeypatch.setattr(retry.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(retry.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def failing(*errors):
    left = list(errors)

    def call():
        if left:
            raise left.pop(0)
        return "answer"

    return call


def test_a_call_is_made_again_until_it_answers(clock):
    assert patiently(failing(TimeoutError(), TimeoutError()), "s3://b") == "answer"
    assert clock[0] > 0


def test_what_does_not_pass_is_raised_at_once(clock):
    with pytest.raises(FileNotFoundError):
        patiently(failing(FileNotFoundError()), "s3://b")
    assert clock[0] == 0


def test_an_outage_is_told_after_some_minutes_without_what_may_be_secret(clock):
    with pytest.raises(OutageError, match="has not answered") as caught:
        patiently(failing(*[TimeoutError()] * 1000), "s3://user:secret@b")
    assert retry.PATIENCE / 2 < clock[0] <= retry.PATIENCE
    assert "secret" not in str(caught.value)


def test_pauses_grow_up_to_a_longest():
    found = list(islice(pauses(), 40))
    assert 0.125 <= found[0] <= 0.25
    assert all(7.5 <= pause <= 15 for pause in found[6:])
