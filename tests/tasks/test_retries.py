"""Which failures of a step are tried again."""

import errno

import pytest

from quant_core.errors import InputError, OutageError, TargetError, UnsupportedError
from tasks.retries import can_pass, smaller_batches


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ESTALE, "Stale file handle"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        TimeoutError("timed out"),
        BrokenPipeError(errno.EPIPE, "broken"),
    ],
    ids=lambda error: type(error).__name__ + str(error.errno),
)
def test_input_and_output_that_fails_is_tried_again(error):
    assert can_pass(error)


@pytest.mark.parametrize(
    "error",
    [
        InputError("not a model"),
        UnsupportedError("not built"),
        TargetError("missed"),
        OutageError("asked for minutes"),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        FileNotFoundError(errno.ENOENT, "gone"),
        PermissionError(errno.EACCES, "denied"),
        MemoryError(),
        ValueError("a bug"),
        TypeError("a bug"),
        RuntimeError("a bug"),
        ZeroDivisionError(),
        None,
    ],
    ids=repr,
)
def test_what_fails_again_is_not_tried_again(error):
    assert not can_pass(error)


@pytest.mark.parametrize(
    ("arguments", "sizes"),
    [
        ({"batch_size": None}, [8, 2, 1]),
        ({"batch_size": 100}, [25, 6, 1]),
        ({"batch_size": 4}, [1]),
        ({"batch_size": 1}, []),
        ({"plan": {}}, []),
    ],
    ids=str,
)
def test_smaller_batches(arguments, sizes):
    assert smaller_batches(arguments) == sizes
