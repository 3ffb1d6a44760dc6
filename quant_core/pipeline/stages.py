"""Every stage of the pipeline, one record each. Runners, keys, task runs and the manifest go by these records."""

from __future__ import annotations

from collections.abc import Mapping

from quant_core.calibration.collect import calibrate
from quant_core.execution.runner import Stage
from quant_core.improvement.migration import migrated_model
from quant_core.improvement.weight_reconstruction import reconstructed_weights
from quant_core.latency import device_times, layer_times, model_times
from quant_core.model.preparation.prepare import prepare
from quant_core.model.prepared_model import is_prepared
from quant_core.pipeline import labels
from quant_core.probing.probe import layer_sensitivity
from quant_core.probing.ranking import ranked_losses
from quant_core.probing.tensor_probe import tensor_sensitivity
from quant_core.quantization.export import export, is_exported
from quant_core.quantization.rounding.weight_rounding import rounded_weights
from quant_core.scoring.evaluation import evaluate_plan, score_file
from quant_core.scoring.evaluator import own_scores
from quant_core.scoring.float_outputs import float_outputs
from quant_core.storage import schemas

__all__ = [
    "BASELINE",
    "CALIBRATE",
    "DEVICE_LATENCY",
    "EVALUATE",
    "EXPORT",
    "LATENCY",
    "MIGRATE",
    "OWN_SCORE",
    "PREPARE",
    "PROBE",
    "PROBE_TENSORS",
    "RANK",
    "RECONSTRUCT",
    "ROUND",
    "STAGES",
    "TIMING",
    "VERIFY",
]

PREPARE = Stage("prepare", prepare, schemas.LAYERS, detail=labels.model_file, has_file=is_prepared)
CALIBRATE = Stage("calibrate", calibrate, schemas.CALIBRATION, detail=labels.data_file)
MIGRATE = Stage("migrate", migrated_model, schemas.LAYERS, detail=labels.migration, has_file=is_prepared)
RECONSTRUCT = Stage("reconstruct", reconstructed_weights, schemas.WEIGHTS, detail=labels.reconstruction)
ROUND = Stage("round", rounded_weights, schemas.WEIGHTS, detail=labels.rounding)
LATENCY = Stage("latency", layer_times, schemas.TIMES, detail=labels.layer_latency)
DEVICE_LATENCY = Stage("device-latency", device_times, schemas.TIMES, detail=labels.layer_latency)
BASELINE = Stage("baseline", float_outputs, None, detail=labels.float_outputs)
EVALUATE = Stage("evaluate", evaluate_plan, schemas.SCORES, sharded_by=("samples",), detail=labels.plan_score)
PROBE = Stage(
    "probe",
    layer_sensitivity,
    schemas.PROBES,
    sharded_by=("shard", "opened_for", "precision", "samples"),
    detail=labels.probes,
)
PROBE_TENSORS = Stage(
    "probe-tensors",
    tensor_sensitivity,
    schemas.PROBES,
    sharded_by=("shard", "samples"),
    detail=labels.tensor_probes,
)
RANK = Stage("rank", ranked_losses, schemas.SENSITIVITY, detail=labels.ranking)
EXPORT = Stage("export", export, schemas.EXPORTED, detail=labels.plan, has_file=is_exported)
VERIFY = Stage("verify", score_file, schemas.SCORES, detail=labels.written_file)
OWN_SCORE = Stage("own-score", own_scores, schemas.OWN_SCORES, detail=labels.own_score)
TIMING = Stage("timing", model_times, schemas.MODEL_TIMES, detail=labels.model_timing)

STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        PREPARE,
        CALIBRATE,
        ROUND,
        MIGRATE,
        RECONSTRUCT,
        LATENCY,
        DEVICE_LATENCY,
        BASELINE,
        EVALUATE,
        PROBE,
        PROBE_TENSORS,
        RANK,
        EXPORT,
        VERIFY,
        OWN_SCORE,
        TIMING,
    )
}
"""The stages by name."""
