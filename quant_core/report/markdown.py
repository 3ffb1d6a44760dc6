"""A run in Markdown: for Prefect's page, and for a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from quant_core.manifest import Manifest
from quant_core.report.limits import foremost, short
from quant_core.report.sentences.half_decibel import half_decibel
from quant_core.report.sentences.summary import summary
from quant_core.report.tables.costs import costs
from quant_core.report.tables.layers import layer_rows
from quant_core.report.tables.samples import sample_rows
from quant_core.report.tables.scores import score_rows

__all__ = ["bold", "plain", "report_markdown", "table", "verdict_markdown"]

_LAYERS = 20
"""Layers that are listed."""


def plain(text: str) -> str:
    """Return text with what Markdown would take for markup made harmless."""
    return "".join(f"\\{letter}" if letter in "\\`*_<>[]|#" else letter for letter in text)


def bold(text: str, is_bold: bool = True) -> str:
    """Return text, in bold where that is asked for."""
    return f"**{text}**" if is_bold else text


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first column is of words and whose others are of numbers; cells are Markdown."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def verdict_markdown(manifest: Manifest) -> str:
    """Return the verdict in words, what speaks against it, and the scores."""
    said = summary(manifest)
    columns = ["metric", "float", f"all {manifest.wide}", "mixed", "held-out"]
    rows = [[bold(row.name, row.target), *map(_score, row.cells, row.margins)] for row in score_rows(manifest)]
    return "\n\n".join(
        [
            f"**{said.headline}.** {plain(said.verdict)}",
            *([f"> {said.doubt}"] if said.doubt else []),
            *map(plain, said.details),
            table(columns[: len(rows[0])], rows),
            "Behind ±: half of the 95% interval over samples. Mixed is the model as shipped, on the evaluation data; "
            "held-out, the same on data the search never saw.",
        ]
    )


def _score(cell: tuple[str, str], margin: str) -> str:
    """Return a score with its margin: Prefect's page cuts off what is wider, and a whole interval would be."""
    return f"{cell[0]} ± {margin}" if margin else cell[0]


def report_markdown(manifest: Manifest, tables: Mapping[str, pa.Table]) -> str:
    """Return what a reviewer wants to know of a run, from its manifest and its tables (see `report_page`)."""
    return "\n\n".join([verdict_markdown(manifest), *_sections(manifest, tables)]) + "\n"


def _sections(manifest: Manifest, tables: Mapping[str, pa.Table]) -> Iterator[str]:
    rows = [[bold(one.name, one.shipped), one.bops or "-", one.size] for one in costs(manifest, tables["layers"])]
    yield table(["model", "bit operations a sample", "weights"], rows)
    if "frontier" in tables and (said := half_decibel(manifest, tables["frontier"])):
        yield f"**The next half decibel.** {plain(' '.join(said))}"
    yield from _layers(manifest, tables)
    if samples := sample_rows(tables["samples"]) if "samples" in tables else []:
        yield "**Where it is furthest off**"
        found = [[str(one.sample), *map(plain, (one.before, one.after)), one.distance] for one in samples]
        yield table(["sample", "float", "shipped", "L2 distance"], found)
    digests = f"Float model `{manifest.input.sha256}`, shipped model `{manifest.output.sha256}`"
    yield f"{digests}, narrowcast {manifest.narrowcast}."


def _layers(manifest: Manifest, tables: Mapping[str, pa.Table]) -> Iterator[str]:
    """List the layers that were not narrowed, those that cost most first of all where there are many."""
    rows = [row for row in layer_rows(manifest, tables["layers"], tables["sensitivity"]) if not row.narrow]
    if not rows or len(rows) == len(manifest.plan):
        return
    shown = foremost(rows, _LAYERS, lambda row: (max(map(int, row.places), default=0), row.share))
    more = f", {len(shown)} of them here" if len(shown) < len(rows) else ""
    yield f"**Layers that stay at {manifest.wide}**: {len(rows)} of {len(manifest.plan)}{more}."
    cells = [[plain(short(row.name)), row.macs, ", ".join(row.losses) or "-"] for row in shown]
    yield table(["layer", "MACs", "loss when narrowed alone"], cells)
