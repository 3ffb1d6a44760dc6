"""What is told of the calibration data."""

from __future__ import annotations

from quant_core.execution.progress import watched_by
from quant_core.pipeline.calibration_stages import note_few_columns
from quant_core.storage.schemas import WEIGHTS
from quant_core.storage.tables import with_facts
from tests.watching import Said


def test_layers_with_more_inputs_than_rows_are_told_once():
    rounded = with_facts(WEIGHTS.empty_table(), columns={"wide": (30, 64), "wider": (30, 80), "narrow": (30, 30)})
    with watched_by(log := Said()):
        note_few_columns([rounded, WEIGHTS.empty_table()])
        note_few_columns([with_facts(WEIGHTS.empty_table(), columns={"narrow": (30, 30)})])
    (note,) = log.notes
    assert "only 30 rows for the 80 inputs of 'wider', the worst of 2 such layers" in note
