"""Which layers a plan may narrow, and what is said of those that it may not."""

import pytest

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.report.sentences.left_float import left_float
from tests.models import chain, samples
from tests.quant_core.workbench import saved

SLOW = {"c1": "a Conv of 3 to 4 channels"}


def manifest_of(folder, **options):
    model = chain()
    data = samples(model)
    config = config_from(target={"metric": "l2", "limit": 1e9}, candidates="layers", **options)
    given = {"calibration": data, "evaluation": data, "config": config, "workers": 1}
    return auto_mixed_precision(saved(model, folder), output=folder / "out", **given).manifest


def test_what_is_slower_in_8_bits_stays_float_and_is_told(tmp_path):
    manifest = manifest_of(tmp_path, wide="float32")
    assert manifest.plan == {"c1": "float32", "c2": "au8w8", "c3": "au8w8", "fc": "au8w8"}
    assert manifest.narrowed.slow == SLOW
    [sentence] = left_float(manifest)
    assert sentence.startswith(
        "1 layer stays in float32 because the runtime would be slower in 8 bits: c1 (a Conv of 3 to 4"
    )


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"wide": "float32", "cost": "bytes"}, id="bytes are to be saved"),
        pytest.param({"wide": "float32", "runtime": "reference"}, id="a runtime that is not known for it"),
        pytest.param({"wide": "au16w8", "narrow": ["au8w8"]}, id="beside a wide precision with codes"),
    ],
)
def test_it_is_narrowed_where_speed_in_float_does_not_count(options, tmp_path):
    manifest = manifest_of(tmp_path, **options)
    assert manifest.plan["c1"] in ("au8w8", "au8w8t") and not manifest.narrowed.slow
