"""What an installed narrowcast must bring along: every file of its packages that is not Python."""

import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE_DATA: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
    "package-data"
]
ONLY_FOR_DEVELOPERS = {"ruff.toml"}


def data_files():
    """The files beside the modules, but for what Python and the linters leave there."""
    for package in ("quant_core", "tasks", "flows"):
        for path in sorted((ROOT / package).rglob("*")):
            hidden = any(part.startswith((".", "__pycache__")) for part in path.parts)
            if path.is_file() and path.suffix != ".py" and path.name not in ONLY_FOR_DEVELOPERS and not hidden:
                yield path.relative_to(ROOT).as_posix()


def is_packaged(file: str) -> bool:
    return any(
        fnmatch(file, f"{package.replace('.', '/')}/{pattern}")
        for package, patterns in PACKAGE_DATA.items()
        for pattern in patterns
    )


@pytest.mark.parametrize("file", list(data_files()))
def test_a_file_beside_the_modules_is_installed_with_them(file):
    assert is_packaged(file), f"name {file} in pyproject's [tool.setuptools.package-data]"
