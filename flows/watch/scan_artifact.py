"""What Prefect's UI shows of a scan."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.artifacts import create_markdown_artifact

from flows.watch.scan import ScanResult
from quant_core.report.markdown import bold, plain

__all__ = ["publish_scan"]


def publish_scan(folder: object, results: Sequence[ScanResult]) -> None:
    """Publish what a scan of a watched folder found, one line a model; those that need attention first."""
    first = sorted(results, key=lambda result: not result.code)
    rows = [f"| {plain(one.name)} | {bold(one.state, one.code > 0)} | {plain(one.says)} |" for one in first]
    wrong = sum(result.code > 0 for result in results)
    text = "\n".join(
        [
            f"**{len(results)} models in {plain(str(folder))}, {wrong or 'none'} of them to be seen to.**",
            "",
            "| model | state | what came of it |",
            "| --- | --- | --- |",
            *rows,
        ]
    )
    create_markdown_artifact(text, key="narrowcast-watch", description="What a scan of a watched folder found")
