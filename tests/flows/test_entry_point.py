from __future__ import annotations

import sys

import pytest

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
    monkeypatch.delitem(sys.modules, "flows.command_line", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(error), *sys.meta_path])
    with pytest.raises(SystemExit, match="130"):
        main()
    assert capsys.readouterr().err == "narrowcast: stopped; run the same command again to go on from here\n"
