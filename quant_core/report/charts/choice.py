"""What a reader sees of a plan of the frontier that is chosen: its precisions, what changes, and how to write it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from quant_core.manifest import Manifest
from quant_core.report.limits import short

__all__ = ["add_changes"]

_CHANGES, _ALL_CHANGES = 2000, 200_000
"""Changed layers that are listed of a plan, and of all plans together at most: the page stays small."""


def add_changes(manifest: Manifest, points: Sequence[dict[str, Any]], plans: Sequence[str]) -> list[list[str]]:
    """Add to each point what its plan changes against the shipped plan; return the layers that any plan changes.

    A layer is its name and its precision in the shipped plan. A point refers to layers by their place in that list, so
    that a name is stored once: `changes` holds those places by the new precision, `changed` how many layers there
    are, and `precisions` the whole plan in words.

    Args:
        manifest: the record of the run, with the shipped plan.
        points: the points of the chart.
        plans: the plan of each point, as the frontier's table has it (JSON: layer to precision).

    """
    limit = min(_CHANGES, _ALL_CHANGES // max(1, len(points)))
    places: dict[str, int] = {}
    for point, written in zip(points, plans, strict=True):
        plan: dict[str, str] = json.loads(written)
        changed = [name for name, precision in plan.items() if manifest.plan.get(name) != precision]
        changes: dict[str, list[int]] = {}
        for name in changed[:limit]:
            changes.setdefault(plan[name], []).append(places.setdefault(name, len(places)))
        point |= {"changed": len(changed), "changes": changes, "precisions": _precisions(plan)}
    return [[short(name), manifest.plan.get(name, "?")] for name in places]


def _precisions(plan: Mapping[str, str]) -> str:
    """Return how many layers a plan has at each precision, the most first."""
    return ", ".join(f"{count:,} at {precision}" for precision, count in Counter(plan.values()).most_common())
