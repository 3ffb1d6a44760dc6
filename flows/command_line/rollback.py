"""`narrowcast rollback`."""

from __future__ import annotations

import click

__all__ = ["rollback"]


@click.command()
@click.argument("folder", metavar="FOLDER", type=click.Path())
@click.argument("version", required=False)
def rollback(folder: str, version: str | None) -> None:
    """Make an earlier VERSION of a watched model the current one; by default the one that was current before.

    \b
    narrowcast rollback quantized/resnet20
    narrowcast rollback s3://bucket/quantized/resnet20 2b1f6c0a9d3e4f57

    FOLDER is the model's folder in the output of `narrowcast watch`. Only its current.json changes, in one write.
    Scans do not go back to the version that was left; name it here to take it again.
    """
    from flows.watch.model_versions import ModelVersions
    from quant_core.storage.store import Store

    versions = ModelVersions(Store(folder))
    chosen = versions.roll_back(version)
    click.echo(f"{versions.place}: version {chosen} is current")
