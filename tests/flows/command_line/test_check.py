"""`narrowcast check` and `narrowcast runtimes` on a terminal."""

from __future__ import annotations

import json

import numpy as np
from click.testing import CliRunner

from flows.command_line.check import check
from flows.command_line.runtimes import runtimes
from quant_core.config import LayerWiseConfig
from quant_core.pipeline.layer_wise import layer_wise
from quant_core.runtimes.registry import PROFILES
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved


def test_tables_are_printed_and_the_exit_code_is_3_where_scores_differ(tmp_path):
    model = MODELS["two-activations"]()
    data, source = samples(model, 64), saved(model, tmp_path)
    config = LayerWiseConfig(runtime="reference")
    made = layer_wise(source, tensors={}, calibration=data, config=config, output=tmp_path / "out", workers=1)
    np.savez(tmp_path / "data.npz", **data)
    file = str(made.folder / "model.onnx")
    arguments = [file, "--evaluation", str(tmp_path / "data.npz"), "--float", str(source)]
    told = CliRunner().invoke(check, arguments)
    assert told.exit_code == 3 and "MatMulNBits" in told.output and "something else than" in told.output
    as_json = CliRunner().invoke(check, [*arguments, "--runtime", "reference", "--json"])
    assert as_json.exit_code == 0 and json.loads(as_json.output)["differs"] is False


def test_every_runtime_is_listed_with_its_rules():
    told = CliRunner().invoke(runtimes).output
    for name, profile in PROFILES.items():
        assert name in told and all(rule.name in told for rule in profile.rules)
