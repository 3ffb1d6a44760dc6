"""Arrow schemas of every stage result. The metadata of each carry its name and version."""

from __future__ import annotations

import pyarrow as pa

__all__ = [
    "CALIBRATION",
    "DEPTH",
    "EXPORTED",
    "FRONTIER",
    "LAYERS",
    "LAYER_LATENCY",
    "MODEL_TIMES",
    "OWN_SCORES",
    "PROBES",
    "SAMPLES",
    "SCHEMA_VERSION",
    "SCORES",
    "SEARCH",
    "SENSITIVITY",
    "TIMES",
    "WEIGHTS",
]

SCHEMA_VERSION = 8
"""Grows whenever a schema below changes meaning; part of every cache key."""


def _schema(name: str, *fields: pa.Field) -> pa.Schema:
    return pa.schema(fields, metadata={"schema": f"{name}/{SCHEMA_VERSION}"})


LAYERS = _schema(
    "layers",
    pa.field("layer", pa.string(), nullable=False),
    pa.field("op", pa.string(), nullable=False),
    pa.field("nodes", pa.list_(pa.int32()), nullable=False),
    pa.field("activations", pa.list_(pa.string()), nullable=False),
    pa.field("weights", pa.list_(pa.string()), nullable=False),
    pa.field("weight_shapes", pa.list_(pa.list_(pa.int64())), nullable=False),
    pa.field("macs", pa.int64(), nullable=False),
    pa.field("state_macs", pa.int64(), nullable=False),
    pa.field("activation_elements", pa.int64(), nullable=False),
    pa.field("weight_bytes", pa.int64(), nullable=False),
    pa.field("channels", pa.int64(), nullable=False),
    pa.field("biases", pa.int32(), nullable=False),
)
"""prepare: one row a layer, in graph order. MACs and activation elements are for one sample; bytes are those of
float32; `biases` of its nodes have one, and weights have so many `channels`. Of the MACs, `state_macs` are with the
state of a recurrent layer."""

CALIBRATION = _schema(
    "calibration",
    pa.field("tensor", pa.string(), nullable=False),
    pa.field("min", pa.float32(), nullable=False),
    pa.field("max", pa.float32(), nullable=False),
    pa.field("count", pa.int64(), nullable=False),
    pa.field("exponent", pa.int32(), nullable=False),
    pa.field("first_bin", pa.int32(), nullable=False),
    pa.field("histogram", pa.list_(pa.uint32()), nullable=False),
)
"""calibrate: one row a tensor. Bin i of the histogram counts values in [i, i+1) * 2**exponent,
starting at i = first_bin. Where a bin has more of them than 32 bits can count, the column is of int64."""

WEIGHTS = _schema(
    "weights",
    pa.field("layer", pa.string(), nullable=False),
    pa.field("weight", pa.string(), nullable=False),
    pa.field("type", pa.string(), nullable=False),
    pa.field("alone", pa.bool_(), nullable=False),
    pa.field("block", pa.int32()),
    pa.field("codes", pa.large_list(pa.int16()), nullable=False),
    pa.field("scale", pa.large_list(pa.float32()), nullable=False),
    pa.field("zero_point", pa.large_list(pa.int64()), nullable=False),
    pa.field("scale_shape", pa.list_(pa.int64()), nullable=False),
    pa.field("bias_shift", pa.list_(pa.float64())),
    pa.field("precision", pa.string()),
    pa.field("rounding", pa.string(), nullable=False),
    pa.field("error", pa.float64()),
)
"""round, reconstruct: one row a weight that was rounded with the calibration data in view, `alone` beside floats, in
blocks of so many inputs if the precision says how many. Codes
are in the weight's order, scale and zero point in that of `scale_shape`; the shift is what is added to biases, one
value an output channel. A row with a precision is of layers at that precision; one without is of all that have weights
of its kind. `rounding` says how codes were chosen, and `error` what that leaves of the squared error of what the layer
puts out, or of the weight (see `quantization.weights.Rounding`)."""

TIMES = _schema(
    "times",
    pa.field("layer", pa.string()),
    pa.field("precision", pa.string()),
    pa.field("mix", pa.string()),
    pa.field("milliseconds", pa.float64(), nullable=False),
    pa.field("median", pa.float64(), nullable=False),
    pa.field("turns", pa.int64(), nullable=False),
)
"""latency: one row a (layer, precision), in time for one sample: the fastest of all turns, and the median. Where no
layer is named, the whole model with all layers at that precision, or, where none is named either, with the precisions
of a `mix` (JSON by layer). What a call of an empty model takes is off a layer's. The facts hold `neighbours`: first and
second layer, relation and elements of each pair."""

MODEL_TIMES = _schema(
    "model_times",
    pa.field("model", pa.string(), nullable=False),
    pa.field("milliseconds", pa.float64(), nullable=False),
    pa.field("fastest", pa.float64(), nullable=False),
    pa.field("turns", pa.int64(), nullable=False),
)
"""timing: one row a model file, in time for one sample: the median of all turns, and the fastest."""

LAYER_LATENCY = _schema(
    "layer_latency",
    pa.field("layer", pa.string(), nullable=False),
    pa.field("precision", pa.string(), nullable=False),
    pa.field("milliseconds", pa.float64(), nullable=False),
)
"""report: what a sample takes in each layer at each precision of the search, where the cost is latency: the prices that
plans were costed by."""

PROBES = _schema(
    "probes",
    pa.field("layer", pa.string(), nullable=False),
    pa.field("precision", pa.string(), nullable=False),
    pa.field("losses", pa.list_(pa.float64()), nullable=False),
    pa.field("seconds", pa.float64(), nullable=False),
)
"""probe: one row a (layer, precision), the loss of every sample of its round, in data order."""

DEPTH = _schema(
    "depth",
    pa.field("layer", pa.string(), nullable=False),
    pa.field("precision", pa.string(), nullable=False),
    pa.field("signal", pa.float64(), nullable=False),
    pa.field("alone", pa.float64(), nullable=False),
    pa.field("accumulated", pa.float64(), nullable=False),
)
"""One row a layer, with all layers at a precision: sums of squares of what it puts out in the float model, of its error
on the float model's tensors, and of its error in the quantized model."""

SENSITIVITY = _schema(
    "sensitivity",
    pa.field("layer", pa.string(), nullable=False),
    pa.field("precision", pa.string(), nullable=False),
    pa.field("loss", pa.float64(), nullable=False),
    pa.field("standard_error", pa.float64(), nullable=False),
    pa.field("samples", pa.int64(), nullable=False),
    pa.field("seconds", pa.float64(), nullable=False),
    pa.field("bops_saved", pa.int64(), nullable=False),
    pa.field("bytes_saved", pa.int64(), nullable=False),
)
"""rank: the probes in the order the search narrows them, with what each narrowing saves for one sample."""

SCORES = _schema(
    "scores",
    pa.field("l2", pa.float64(), nullable=False),
    pa.field("signal", pa.float64(), nullable=False),
    pa.field("error", pa.float64(), nullable=False),
    pa.field("kl", pa.float64()),
    pa.field("cosine", pa.float64(), nullable=False),
    pa.field("top1", pa.float64()),
    pa.field("float_top1", pa.float64()),
    pa.field("margin", pa.float64()),
    pa.field("float_margin", pa.float64()),
    pa.field("output_signal", pa.list_(pa.float64())),
    pa.field("output_error", pa.list_(pa.float64())),
    pa.field("output_cosine", pa.list_(pa.float64())),
    pa.field("part_signal", pa.list_(pa.float64())),
    pa.field("part_error", pa.list_(pa.float64())),
    pa.field("score", pa.float64()),
    pa.field("float_score", pa.float64()),
)
"""baseline, evaluate, verify: one row a sample, the terms every built-in metric is made of. The lists have one value
for each of several outputs that are compared, and for each part of outputs whose channels are of unlike scale. The last
two are of the user's evaluator, where it returns one value a sample: of this model and of the float one."""

OWN_SCORES = _schema("own_scores", pa.field("score", pa.float64(), nullable=False))
"""own-score: what the user's evaluator returned of a model file, one row a sample, or a single one. The facts say
which: `per_sample`."""

SAMPLES = _schema(
    "samples",
    pa.field("sample", pa.int64(), nullable=False),
    pa.field("l2", pa.float64(), nullable=False),
    pa.field("label", pa.int64()),
    pa.field("output", pa.string(), nullable=False),
    pa.field("float_class", pa.int64()),
    pa.field("shipped_class", pa.int64()),
    pa.field("place", pa.list_(pa.int64())),
    pa.field("float", pa.float64(), nullable=False),
    pa.field("shipped", pa.float64(), nullable=False),
    pa.field("picture", pa.binary()),
)
"""report: the samples that the shipped file does worst on, the worst first. Of an output with classes, the class that
each model answers and its value there; of any other the place in the output of one sample that differs most, and both
values. The picture is a PNG file, where the sample is an image."""

SEARCH = _schema(
    "search",
    pa.field("step", pa.int32(), nullable=False),
    pa.field("plan", pa.string(), nullable=False),
    pa.field("layers_narrowed", pa.int32(), nullable=False),
    pa.field("macs_share", pa.float64(), nullable=False),
    pa.field("cost", pa.float64(), nullable=False),
    pa.field("score", pa.float64(), nullable=False),
    pa.field("standard_error", pa.float64()),
    pa.field("bound", pa.float64(), nullable=False),
    pa.field("samples", pa.int64(), nullable=False),
    pa.field("accepted", pa.bool_(), nullable=False),
    pa.field("precisions", pa.string(), nullable=False),
    pa.field("tensors", pa.string()),
)
"""search: one row an evaluated plan, in the order they were tried. `plan` is its digest, `precisions` its JSON, and
`tensors` that of the types of single tensors (null before version 6).
The cost is the one that the search saves. `bound` is what was held against the limit: the score itself, unless a
confidence was asked for. The score of a plan that was settled on some of the samples is a projection to all of them."""

FRONTIER = _schema(
    "frontier",
    pa.field("plan", pa.string(), nullable=False),
    pa.field("layers_narrowed", pa.int32(), nullable=False),
    pa.field("cost", pa.float64(), nullable=False),
    pa.field("cost_ratio", pa.float64(), nullable=False),
    pa.field("bound", pa.float64()),
    pa.field("top1", pa.float64()),
    pa.field("l2", pa.float64()),
    pa.field("sqnr_db", pa.float64()),
    pa.field("kl", pa.float64()),
    pa.field("cosine", pa.float64()),
    pa.field("top1_drop", pa.float64()),
    pa.field("metric_drop", pa.float64()),
    pa.field("score", pa.float64()),
    pa.field("score_drop", pa.float64()),
    pa.field("low_score", pa.float64()),
    pa.field("score_rise", pa.float64()),
    pa.field("samples", pa.int64(), nullable=False),
    pa.field("precisions", pa.string(), nullable=False),
    pa.field("tensors", pa.string()),
    pa.field("costs", pa.string()),
)
"""frontier: the plans that no other beats in both cost and score, by ascending cost; each scored on all samples, as its
file would. `bound` is what the target's metric holds against a limit (see SEARCH), `costs` all costs (JSON)."""

EXPORTED = _schema(
    "exported",
    pa.field("file", pa.string(), nullable=False),
    pa.field("sha256", pa.string(), nullable=False),
    pa.field("bytes", pa.int64(), nullable=False),
)
"""export: one row a file the quantized model is made of, the model itself first."""
