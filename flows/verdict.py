"""What came of a run, as an artifact in Prefect's UI."""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact

from quant_core.output import Outcome

__all__ = ["publish_verdict"]


def publish_verdict(outcome: Outcome) -> None:
    """Show the verdict and the scores with the flow run that is running."""
    create_markdown_artifact(_verdict(outcome), key="narrowcast-verdict", description="What came of the run")


def _verdict(outcome: Outcome) -> str:
    manifest = outcome.manifest
    narrowed, scores = manifest["narrowed"], manifest["scores"]
    cells = {name: [_cell(scores[part], name) for part in _PARTS] for name in scores["mixed"]}
    aimed = manifest["target"]["limit"] is not None
    verdict = f"**Target {'met' if outcome.met else 'missed'}**" if aimed else "**Quantized**"
    share = f"{narrowed['macs_share']:.1%} of the multiply-accumulates"
    return "\n".join(
        [
            f"{verdict}: {narrowed['layers']} of {narrowed['of']} layers narrowed, {share}, "
            f"bit operations x {narrowed['bops_ratio']:.2f}.",
            "",
            "| metric | " + " | ".join(_PARTS.values()) + " |",
            "| --- | " + "--- | " * len(_PARTS),
            *(f"| {name} | " + " | ".join(row) + " |" for name, row in cells.items()),
            "",
            f"Model: `{outcome.model}`",
        ]
    )


_PARTS = {"float": "float", "wide": "wide", "mixed": "mixed", "holdout": "mixed on held-out data"}


def _cell(scores: dict[str, float], name: str) -> str:
    return f"{scores[name]:.5g}" if name in scores else ""
