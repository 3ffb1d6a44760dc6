"""Which changes of the source make a step be computed again."""

from __future__ import annotations

import ast

import pytest

from quant_core.pipeline.stages import STAGES
from tasks.cache import sources
from tasks.cache.sources import code_without_prose, import_closure


@pytest.fixture
def edited(monkeypatch):
    """Puts a line at the end of a module, as the digests see it; which stages' keys change."""

    def changed(module: str, line: str) -> set[str]:
        before = digests()
        real = sources._source
        with monkeypatch.context() as patch:
            patch.setattr(sources, "_source", lambda name: real(name) + (line.encode() if name == module else b""))
            clear()
            after = digests()
        clear()
        return {name for name in STAGES if before[name] != after[name]}

    return changed


def clear():
    sources.code_digest.cache_clear()
    sources.import_closure.cache_clear()
    sources._read.cache_clear()


def digests():
    return {name: sources.code_digest(stage.function.__module__) for name, stage in STAGES.items()}


@pytest.mark.parametrize(
    "module",
    ["quant_core.report.sentences.verdict", "quant_core.results.comparison", "quant_core.pipeline.plans.study"],
)
def test_code_that_only_tells_of_a_run_changes_no_key(edited, module):
    assert edited(module, "\nWORDS = 'another sentence'\n") == set()


def test_another_search_option_changes_no_key(edited):
    assert edited("quant_core.config.search", "\nANOTHER = 1\n") == set()
    assert "probe" in edited("quant_core.config.quantization", "\nANOTHER = 1\n")


def test_a_constant_of_quantization_changes_the_key_of_every_stage_that_can_import_it(edited):
    module = "quant_core.quantization.weights"
    able = {name for name, stage in STAGES.items() if module in import_closure(stage.function.__module__)}
    assert edited(module, "\n_CONSTANT = 2\n") == able
    assert {"probe", "evaluate", "export"} <= able and not {"prepare", "calibrate", "rank"} & able


@pytest.mark.parametrize("line", ["\n# a comment\n", '\n"""A docstring of the last constant."""\n', "\n\n\n"])
def test_prose_in_the_engine_changes_no_key(edited, line):
    assert edited("quant_core.numerics", line) == set()


def test_the_vocabulary_changes_the_key_of_all_stages_that_speak_it(edited):
    assert edited("quant_core.precision.precision", "\nWIDEST = 16\n") >= {
        "calibrate",
        "probe",
        "evaluate",
        "export",
        "rank",
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('def f():\n    """Say it."""\n    return 1\n', 'def f():\n    """Say it otherwise."""\n    return 1\n'),
        ("x = 1\n", "# why\nx = 1\n"),
        ('x: int = Field(default=1, description="a")\n', 'x: int = Field(default=1, description="a longer text")\n'),
        ('x: Annotated[int, Flag(A, "N")]\n', 'x: Annotated[int, Flag(B, "M", default="all cores")]\n'),
        ('class A:\n    b: int\n    """What b is: ä."""\n    c = 2\n', "class A:\n    b: int\n    c = 2\n"),
    ],
    ids=["docstring", "comment", "description", "flag", "docstring of a field"],
)
def test_what_only_people_read_is_left_out(one, other):
    assert code_without_prose(one.encode()) == code_without_prose(other.encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1\n", "x = 2\n"),
        ('x = "a"\n', 'x = "b"\n'),
        ('f(default="a")\n', 'f(default="b")\n'),
        ('raise ValueError("a")\n', 'raise ValueError("b")\n'),
    ],
    ids=["number", "text", "argument", "message"],
)
def test_what_runs_is_not_left_out(one, other):
    assert code_without_prose(one.encode()) != code_without_prose(other.encode())


def test_imports_for_type_checkers_alone_do_not_count(monkeypatch):
    texts = {
        "quant_core.a": b"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import quant_core.b\n",
        "quant_core.c": b"def f():\n    import quant_core.d\n",
    }
    monkeypatch.setattr(sources, "_source", lambda name: texts.get(name, b""))
    clear()
    assert import_closure("quant_core.a") == {"quant_core.a"}
    assert import_closure("quant_core.c") == {"quant_core.c", "quant_core.d"}
    clear()


def test_no_stage_can_import_what_is_above_it():
    for stage in STAGES.values():
        above = ("quant_core.report", "quant_core.results", "quant_core.pipeline", "quant_core.quark")
        assert not [name for name in import_closure(stage.function.__module__) if name.startswith(above)]


def test_a_source_is_parsed_again_where_another_thread_parsed_meanwhile(monkeypatch):
    parse, calls = ast.parse, []

    def interrupted_once(source):
        calls.append(source)
        if len(calls) == 1:
            raise SystemError("AST constructor recursion depth mismatch (before=75, after=74)")
        return parse(source)

    monkeypatch.setattr(ast, "parse", interrupted_once)
    assert code_without_prose(b"x = 1  # one\n") and len(calls) == 2
