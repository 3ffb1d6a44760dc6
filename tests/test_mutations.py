"""Every mutation can still be made: `python -m tests.mutations` takes too long to be run whenever the source moves on."""

import shutil
from pathlib import Path

import pytest

from tests.mutations import MUTATIONS, broken

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_what_a_mutation_replaces_is_there_once(mutation, tmp_path):
    file = Path("quant_core", mutation.file)
    (tmp_path / file).parent.mkdir(parents=True)
    shutil.copy(ROOT / file, tmp_path / file)
    broken(mutation, tmp_path)
    assert (tmp_path / file).read_text() != (ROOT / file).read_text()
