"""The digest of the code that a module can import: what is told people (docstrings, comments, help) is left out.

Modules are found by reading, not by importing: the imports of a module, of those it imports, and so on. A package's
own `__init__` counts where a name is imported from it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import quant_core

__all__ = ["code_digest", "code_without_prose", "import_closure"]

_ROOT = Path(quant_core.__file__).parent.parent


@cache
def code_digest(module: str) -> str:
    """Return a sha256 over the code of a module of the engine and of all modules of it that it can import."""
    digest = hashlib.sha256()
    for name in sorted(import_closure(module)):
        digest.update(f"{name}\0".encode() + _read(name).code + b"\0")
    return digest.hexdigest()


@cache
def import_closure(module: str) -> frozenset[str]:
    """Return the names of the engine's modules that a module can import, itself among them."""
    found, waiting = {module}, [module]
    while waiting:
        new = _read(waiting.pop()).imports - found
        found |= new
        waiting += sorted(new)
    return frozenset(found)


@dataclass(frozen=True)
class _Module:
    """What a module's file holds."""

    imports: frozenset[str]
    """Names of the engine's modules that it imports."""
    code: bytes
    """Its code without prose."""


# Closures of the stages have most modules in common, and reading one takes milliseconds.
@cache
def _read(module: str) -> _Module:
    source = _source(module)
    return _Module(frozenset(_imports(_parsed(source))), code_without_prose(source))


def _imports(tree: ast.Module) -> Iterator[str]:
    """Yield the engine's modules that a source imports, also inside functions; not those for type checkers alone."""
    for node in _statements(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("quant_core."):
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (member for member in members if _file(member) is not None)
            if any(_file(member) is None for member in members) or not _is_package(node.module):
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("quant_core."))


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements of a node and of those in it, without what runs for type checkers alone."""
    for part in ("body", "orelse", "handlers", "finalbody", "cases"):
        for inner in getattr(node, part, ()) if not isinstance(node, ast.expr) else ():
            if isinstance(inner, ast.If) and "TYPE_CHECKING" in ast.dump(inner.test):
                yield from (found for other in inner.orelse for found in (other, *_statements(other)))
                continue
            if isinstance(inner, ast.stmt):
                yield inner
            yield from _statements(inner)


@cache
def _file(module: str) -> Path | None:
    """Return the file of a module or package, or None for a name that is neither."""
    place = _ROOT.joinpath(*module.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


@cache
def _is_package(module: str) -> bool:
    return _ROOT.joinpath(*module.split("."), "__init__.py").is_file()


def _source(module: str) -> bytes:
    file = _file(module)
    return b"" if file is None else file.read_bytes()


def _parsed(source: bytes) -> ast.Module:
    """Return the syntax tree; parse again where another thread parsed meanwhile.

    CPython up to 3.11 counts how deep the recursion is for all threads together, and raises SystemError then.
    """
    try:
        return ast.parse(source)
    except SystemError:
        return ast.parse(source)


def code_without_prose(source: bytes) -> bytes:
    """Return the lines of a source that run: no docstring, no line of comment, no help text, no empty line."""
    tree, starts = _parsed(source), [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    prose: list[ast.expr | ast.stmt] = [node for node in _statements(tree) if _is_text(node)]
    if b"Flag(" in source or b"description=" in source:  # few modules have them, and a look at all nodes takes long
        prose += _shown(tree)

    def span(node: ast.expr | ast.stmt) -> tuple[int, int]:
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        return starts[first] + node.col_offset, starts[last] + (node.end_col_offset or 0)

    code = source
    for begin, end in sorted(map(span, prose), reverse=True):
        code = code[:begin] + code[end:]
    lines = (line.rstrip() for line in code.splitlines())
    return b"\n".join(line for line in lines if line and not line.lstrip().startswith(b"#"))


def _is_text(node: ast.stmt) -> bool:
    """Return whether a statement is a text, such as a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _shown(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield what is only shown of options: descriptions, and flags; none inside another."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.keyword) and node.arg == "description" and isinstance(node.value, ast.Constant):
            yield node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Flag":
            yield node
        else:
            yield from _shown(node)
