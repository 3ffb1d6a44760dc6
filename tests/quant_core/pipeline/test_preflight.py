import pytest

from quant_core import auto_mixed_precision
from quant_core.config import config_from
from quant_core.errors import InputError
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"runtime": "qnn", "cost": "latency"}, "cost: qnn is run in a simulator here, .*give --timer"),
        ({"runtime": "qnn", "time_models": True}, "time_models: qnn is run in a simulator here, .*give --timer"),
        ({"runtime": "tract", "time_batch": 8}, "time_batch: nothing is timed for tract"),
    ],
)
def test_times_that_are_not_to_be_had_are_refused(tmp_path, options, told):
    model, data = MODELS["chain"](), samples(MODELS["chain"](), 4)
    config = config_from(target={"metric": "l2", "limit": 1.0}, **options)
    with pytest.raises(InputError, match=told):
        auto_mixed_precision(
            saved(model, tmp_path), calibration=data, evaluation=data, config=config, output=tmp_path / "out"
        )
