"""The short form of tests.e2e.fuzz: some damaged models and data files of each kind."""

import subprocess
import sys

import pytest

pytest.importorskip("PIL")


def test_damaged_inputs_end_in_words():
    # A process of its own: it forks, which a process that has run a session had better not.
    command = [sys.executable, "-m", "tests.e2e.fuzz", "--chunks", "2", "--models", "10", "--data", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
