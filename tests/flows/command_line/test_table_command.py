"""Options of the table on the command line."""

from contextlib import contextmanager

import click
import pytest
from click.testing import CliRunner

from flows import temporary_server
from flows.command_line.auto import auto
from flows.command_line.table_command import TableCommand


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


@pytest.mark.parametrize(
    ("arguments", "code", "happened"),
    [
        ([], 0, ["started", "ran", "ended"]),
        (["--no-such-option"], 2, ["started", "ended"]),
        (["--help"], 0, []),
    ],
    ids=["a run", "a refusal", "help"],
)
def test_the_server_of_a_run_is_there_while_its_options_are_read(monkeypatch, arguments, code, happened):
    seen = []

    @contextmanager
    def server():
        seen.append("started")
        try:
            yield "server"
        finally:
            seen.append("ended")

    def run():
        assert click.get_current_context().obj == "server"
        seen.append("ran")

    monkeypatch.setattr(temporary_server, "prefect_server", server)
    command = TableCommand("run", table=list, starts_server=True, callback=run)
    assert CliRunner().invoke(command, arguments).exit_code == code
    assert seen == happened
