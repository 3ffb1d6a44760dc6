from __future__ import annotations

import subprocess
import sys

import pytest

from flows import entry_point
from flows.entry_point import main


class Interrupted:
    """Fails to import the command line."""

    def __init__(self, error):
        self.error = error

    def find_spec(self, name, path=None, target=None):
        if name == "flows.command_line":
            raise self.error


def interrupted_import() -> ImportError:
    """What a compiled module may make of Ctrl-C."""
    error = ImportError("numpy failed to load")
    error.__cause__ = KeyboardInterrupt()
    return error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), interrupted_import()], ids=["interrupt", "import-error"])
def test_ctrl_c_while_the_command_line_is_imported_is_one_line(monkeypatch, capsys, error):
    monkeypatch.setattr(entry_point, "_end_soon", lambda code: None)
    monkeypatch.delitem(sys.modules, "flows.command_line", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(error), *sys.meta_path])
    with pytest.raises(SystemExit, match="130"):
        main()
    assert capsys.readouterr().err == "narrowcast: stopped; run the same command again to go on from here\n"


ENDED = """
import atexit, sys, threading, flows.command_line as commands
class Left:
    def __del__(self):
        print("taken apart")
left = Left()
def main():
    threading.Timer(0.1, print, ["a thread"]).start()
    atexit.register(print, "registered")
    {end}
commands.main = main
from flows.entry_point import main
main()
"""


@pytest.mark.parametrize(
    ("end", "code", "printed"),
    [
        ("sys.exit(3)", 3, ["a thread", "registered"]),
        ("return", 0, ["a thread", "registered"]),
        ("raise ValueError", 1, ["a thread", "registered", "taken apart"]),
    ],
)
def test_the_process_ends_when_its_threads_and_what_is_registered_have(end, code, printed):
    run = subprocess.run(
        [sys.executable, "-c", ENDED.replace("{end}", end)], check=False, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout.splitlines()) == (code, printed)
    assert ("ValueError" in run.stderr) == (code == 1)


@pytest.mark.parametrize("stops", ["raise KeyboardInterrupt", "sys.exit(130)"], ids=["interrupt", "code of one"])
def test_an_interrupted_process_does_not_wait_for_a_thread_that_computes(stops):
    end = f"threading.Thread(target=threading.Event().wait).start()\n    {stops}"
    patched = "import flows.entry_point\nflows.entry_point._LAST_SECONDS = 0.5\n"
    run = subprocess.run(
        [sys.executable, "-c", patched + ENDED.replace("{end}", end)], check=False, capture_output=True, timeout=60
    )
    assert run.returncode == 130
