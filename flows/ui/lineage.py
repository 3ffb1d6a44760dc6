"""What a run was made from and what it made, as Prefect's assets.

The flow tells of them in a task that is never cached: a task whose state is cached tells of none.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import quote

from prefect.assets import Asset, AssetProperties, add_asset_metadata, materialize
from prefect.cache_policies import NO_CACHE

from quant_core.manifest import Manifest
from quant_core.results.outcome import Outcome
from quant_core.urls import is_remote, redacted

__all__ = ["record_lineage"]

_LONGEST_KEY = 512


def record_lineage(outcome: Outcome) -> None:
    """Tell Prefect of the shipped model and its manifest, made from the float model and the data, with digests."""
    manifest = outcome.manifest
    place = manifest.sources.output or str(outcome.folder)
    made = {
        _asset(f"{place.rstrip('/')}/model.onnx", "quantized model", manifest.output.sha256): manifest.output.sha256,
        _asset(f"{place.rstrip('/')}/manifest.json", "manifest", manifest.digest or ""): manifest.digest or "",
    }

    @materialize(
        *made,
        by="narrowcast",
        asset_deps=_inputs(manifest),
        name="lineage",
        task_run_name="record what was made from what",
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    def lineage() -> None:
        """Tell of the assets; the files are there already."""
        for asset, digest in made.items():
            add_asset_metadata(asset, {"sha256": digest, **_facts(manifest)})

    lineage()


def _inputs(manifest: Manifest) -> list[str | Asset]:
    """Return the float model and the data, as far as they are files: arrays and random samples are nowhere."""
    data, sources = manifest.data, manifest.sources
    given = {
        "model": (sources.model, "float model", manifest.input.sha256),
        "calibration": (sources.calibration, "calibration data", data.calibration),
        "evaluation": (sources.evaluation, "evaluation data", data.evaluation),
        "holdout": (sources.holdout, "held-out data", data.holdout),
    }
    files = [facts for part, facts in given.items() if part not in data.random]
    found = [_asset(place, role, digest) for place, role, digest in files if place and digest]
    return list({asset.key: asset for asset in found}.values())


def _facts(manifest: Manifest) -> dict[str, str]:
    """Return what each asset says of the run that made it."""
    metric = manifest.target.metric
    return {
        "narrowcast": manifest.narrowcast,
        "input_sha256": manifest.input.sha256,
        "target": f"{metric} {manifest.target.limit}" if manifest.target.limit is not None else metric,
        "met": str(manifest.target.met),
    }


def _asset(place: str, role: str, digest: str) -> Asset:
    """Return the asset of a file."""
    url = redacted(place) if is_remote(place) else f"file://{Path(place).resolve()}"
    properties = AssetProperties(name=Path(url).name, description=f"{role}, sha256 {digest}")
    return Asset(key=_key(url), properties=properties)


def _key(url: str) -> str:
    """Return a URL as a key that Prefect accepts: with = for %, which it refuses, and a digest for a long rest."""
    scheme, _, path = url.partition("://")
    key = f"{scheme.lower()}://{quote(path, safe='/:@+').replace('%', '=')}"
    if len(key) <= _LONGEST_KEY:
        return key
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f"{key[: _LONGEST_KEY - len(digest) - 1]}={digest}"
