"""Made-up results of runs, as the output folder holds them: what a report is made from."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from quant_core.calibration.histogram import Histogram, histogram_table
from quant_core.config import MixedPrecisionConfig, Target
from quant_core.manifest import Manifest
from quant_core.precision import PrecisionPlan
from quant_core.results.manifest_file import manifest_json, sealed
from quant_core.scoring.thumbnails import thumbnail
from quant_core.storage.schemas import FRONTIER, LAYER_LATENCY, LAYERS, SAMPLES, SEARCH, SENSITIVITY
from quant_core.storage.tables import to_ipc, with_facts

__all__ = [
    "HOSTILE",
    "Run",
    "Tables",
    "changed",
    "everything_narrow",
    "frontier",
    "ladder",
    "missed",
    "mixed",
    "own_metric",
    "write_run",
]

Tables = dict[str, pa.Table]
Run = tuple[Manifest, Tables]

HOSTILE = "</script><script>window.broken=1</script><img src=x onerror=window.broken=1>\"'&<!--\u2028"
"""A layer's name."""


def mixed(names: tuple[str, ...] = ("conv", HOSTILE, "head/Gemm")) -> Run:
    """A run that narrowed all but the last layer."""
    config = MixedPrecisionConfig(target=Target(metric="l2", limit=0.5))
    plan = dict.fromkeys(names[:-1], "a8w8") | {names[-1]: "a16w8"}
    scores = {"l2": 0.49, "sqnr_db": 31.5, "kl": 1.7e-3, "cosine": 3.7e-4, "top1": 0.8765, "top1_drop": 0.004}
    content = {
        "narrowcast": "0.1.0",
        "input": {"sha256": "1" * 64},
        "output": {"sha256": "2" * 64, "bytes": 334_314},
        "wide": "a16w8",
        "narrow": ["a8w8"],
        "target": {"metric": "l2", "limit": 0.5, "function": None, "confidence": None, "met": True},
        "scores": {"float": {"top1": 0.8805}, "wide": scores | {"l2": 0.42}, "mixed": scores, "holdout": scores},
        "standard_errors": {
            "float": {"top1": 0.007},
            **{part: {"l2": 0.002, "top1": 0.007, "top1_drop": 0.002} for part in ("wide", "mixed", "holdout")},
        },
        "samples": {"evaluation": 2000, "holdout": 1000},
        "plan": plan,
        "narrowed": {"layers": len(names) - 1, "of": len(names), "macs_share": 0.8145, "bops_ratio": 0.5927},
        "work": {"probes": 3, "probe_samples": 600, "evaluations": 3, "cached_steps": 0, "computed_steps": 17},
        "seconds": {"prepare": 0.2, "probe": 12.5},
        "data": {"calibration": "3" * 64, "evaluation": "4" * 64, "holdout": "5" * 64},
        "sources": {"model": "my model.onnx", "calibration": "c.npz", "evaluation": "e.npz", "holdout": "h.npz"},
        "config": config.model_dump(mode="json"),
        "environment": {"python": "3.11", "numpy": "2.4"},
    }
    return Manifest.model_validate(content), _tables(names, plan, (0.42, 0.49, 0.53))


def changed(manifest: Manifest, changes: dict[str, Any]) -> Manifest:
    """The manifest with some of its values replaced, each by the path of its keys: `{"scores.mixed.l2": 0.45}`."""
    content = manifest.model_dump(mode="json")
    for path, value in changes.items():
        *outer, last = path.split(".")
        place = content
        for key in outer:
            place = place[key]
        place[last] = value
    return Manifest.model_validate(content)


def missed() -> Run:
    """Even the wide model is not good enough: nothing was probed, and no held-out data was given."""
    manifest, tables = mixed()
    wide = dict.fromkeys(manifest.plan, "a16w8")
    changes = {
        "plan": wide,
        "target.limit": 0.1,
        "target.met": False,
        "narrowed": {"layers": 0, "of": 3, "macs_share": 0.0, "bops_ratio": 1.0},
        "scores.mixed": manifest.scores.wide,
        "scores.holdout": {},
        "data.holdout": None,
    }
    return changed(manifest, changes), tables | {
        "sensitivity": SENSITIVITY.empty_table(),
        "search": _search(tuple(wide), (0.42,), 0.1),
    }


def everything_narrow() -> Run:
    """All layers narrowed at once meet the target: nothing was probed."""
    manifest, tables = mixed()
    changes = {
        "plan": dict.fromkeys(manifest.plan, "a8w8"),
        "narrowed": {"layers": 3, "of": 3, "macs_share": 1.0, "bops_ratio": 0.5},
    }
    return changed(manifest, changes), tables | {"sensitivity": SENSITIVITY.empty_table()}


def own_metric() -> Run:
    """The target is about the user's own metric, which has no standard error."""
    manifest, tables = mixed()
    target = {"metric": "metric_drop", "limit": 0.01, "function": "pkg.mod:accuracy"}
    changes = {
        "target": target | {"confidence": None, "met": True},
        "scores.float": {"top1": 0.88, "metric": 0.88},
        **{f"scores.{part}.metric_drop": 0.004 for part in ("wide", "mixed", "holdout")},
        "config.target": target,
    }
    return changed(manifest, changes), tables


def ladder() -> Run:
    """Two narrow precisions, each layer at another."""
    names = ("one", "two", "three")
    manifest, tables = mixed(names)
    changes = {
        "wide": "a16w16",
        "narrow": ["a16w8", "a8w8"],
        "plan": dict(zip(names, ("a8w8", "a16w8", "a16w16"), strict=True)),
    }
    return changed(manifest, changes), tables | {"sensitivity": _sensitivity(names, ("a16w8", "a8w8"))}


def frontier() -> Run:
    """A run that kept its frontier: five plans, one of which is there for its KL divergence only."""
    names = ("one", "two", "three")
    manifest, tables = mixed(names)
    plans = [(3, 0.53, 0.01), (2, 0.49, 0.02), (1, 0.5, 0.003), (1, 0.44, 0.005), (0, 0.42, 0.001)]
    rows = [
        {
            "plan": PrecisionPlan.from_dict(plan).digest,
            "layers_narrowed": count,
            "cost": 900.0 - 100 * count + place,
            "cost_ratio": (900.0 - 100 * count + place) / 904,
            "bound": l2,
            "l2": l2,
            "sqnr_db": 31.5 + 20 * math.log10(0.49 / l2),
            "kl": kl,
            "samples": 2000,
            "precisions": json.dumps(plan),
        }
        for place, (count, l2, kl) in enumerate(plans)
        for plan in [{name: "a8w8" if (i - place // 3) % 3 < count else "a16w8" for i, name in enumerate(names)}]
    ]
    table = pa.Table.from_pylist(rows, schema=FRONTIER)
    taken = [(name, at, 2.0 - (at == "a8w8") * place) for place, name in enumerate(names) for at in ("a16w8", "a8w8")]
    kept = {
        "frontier": with_facts(table, cost="bops", metric="l2", function=None),
        "samples": _samples(),
        "latency": pa.Table.from_arrays(
            [pa.array(column) for column in zip(*taken, strict=True)], schema=LAYER_LATENCY
        ),
    }
    cost = {"unit": "ms", "wide": 7.0, "mixed": 6.5, "saved": 0.5 / 7}
    return changed(manifest, {"costs": {"objective": "bops", "latency": cost}}), tables | kept


def _samples() -> pa.Table:
    """Two samples: one that is a picture and is taken for another class, and one whose output has no classes."""
    picture = thumbnail(np.arange(3 * 12 * 16, dtype=np.float32).reshape(3, 12, 16))
    one = {"sample": 7, "l2": 1.25, "label": 3, "output": "logits", "float_class": 3, "shipped_class": 5}
    other = {"sample": 0, "l2": 0.5, "output": HOSTILE, "place": [2, 40]}
    rows = [one | {"float": 4.5, "shipped": 4.25, "picture": picture}, other | {"float": 0.5, "shipped": -0.75}]
    return pa.Table.from_pylist(rows, schema=SAMPLES)


def _tables(names: tuple[str, ...], plan: dict[str, str], scores: tuple[float, ...]) -> Tables:
    layers = [
        {
            "layer": name,
            "op": "Conv",
            "nodes": [index],
            "activations": [f"{name} in"],
            "weights": [f"{name} weight"],
            "weight_shapes": [[16, 3, 3, 3]],
            "macs": 1000 * (index + 1),
            "state_macs": 0,
            "activation_elements": 3072,
            "weight_bytes": 1728,
        }
        for index, name in enumerate(names)
    ]
    return {
        "layers": pa.Table.from_pylist(layers, schema=LAYERS),
        "calibration": _calibration([f"{name} in" for name in names]),
        "sensitivity": _sensitivity(names, ("a8w8",)),
        "search": _search(names, scores, 0.5),
    }


def _calibration(tensors: list[str]) -> pa.Table:
    values = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    return with_facts(
        histogram_table({name: Histogram.of(values) for name in tensors}),
        ranges={name: {"int16": [-5.0, 5.0], "int8": [-3.0, 3.0]} for name in tensors},
        carried={tensors[0]: ["int8"], tensors[-1]: ["int16", "int8"]},
    )


def _sensitivity(names: tuple[str, ...], precisions: tuple[str, ...]) -> pa.Table:
    rows = [
        {
            "layer": name,
            "precision": precision,
            "loss": 10.0 ** (index % 5 + place) * 1e-4,
            "standard_error": 1e-5,
            "samples": 200,
            "seconds": 0.1,
            "bops_saved": 100,
            "bytes_saved": 10,
        }
        for index, name in enumerate(names)
        for place, precision in enumerate(precisions)
    ]
    return pa.Table.from_pylist(sorted(rows, key=lambda row: float(row["loss"])), schema=SENSITIVITY)


def _search(names: tuple[str, ...], scores: tuple[float, ...], limit: float) -> pa.Table:
    """Plans that narrow ever more layers; the second-to-last count of them is what `mixed` ships."""
    rows = []
    for step, score in enumerate(scores):
        count = (0, len(names) - 1, len(names))[step]
        plan = PrecisionPlan.from_dict({name: "a8w8" if i < count else "a16w8" for i, name in enumerate(names)})
        rows.append(
            {
                "step": step,
                "plan": plan.digest,
                "layers_narrowed": count,
                "macs_share": count / len(names),
                "cost": 1000.0 - count,
                "score": score,
                "standard_error": 0.01,
                "bound": score,
                "samples": 100,
                "accepted": score <= limit,
                "precisions": json.dumps(plan.as_dict()),
            }
        )
    return pa.Table.from_pylist(rows, schema=SEARCH)


def write_run(folder: Path, run: Run) -> Path:
    """The output folder of a made-up run, without its model and report."""
    manifest, tables = run
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: to_ipc(table) for name, table in tables.items()}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    (folder / "manifest.json").write_text(manifest_json(sealed(changed(manifest, {"tables": digests}))))
    for name, data in files.items():
        (folder / f"{name}.arrow").write_bytes(data)
    return folder
