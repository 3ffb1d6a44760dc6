"""The form by which a person chooses which plan of a frontier is published, or that none is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from prefect.flow_runs import pause_flow_run, suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import deployment
from pydantic import Field, create_model

from quant_core.pipeline.picking.frontier_choice import choices_of
from quant_core.report.sentences.summary import summary
from quant_core.report.text import METRIC_NAMES, metric_text, percent
from quant_core.results.outcome import Outcome

__all__ = ["Answer", "ask", "form_of", "plans_to_choose"]

_KEY = "approval"
"""By which Prefect finds the answer when a suspended run goes on."""


@dataclass(frozen=True)
class Answer:
    """What a person has answered."""

    plan: str | None
    """Digest of the plan to publish; None: none is."""
    reason: str
    """The reason, as far as one was given."""


def ask(run: Outcome, seconds: int) -> Answer:
    """Show the form on the flow run's page, and return the answer.

    A run of a deployment is suspended: its process ends, and it begins anew once there is an answer. Any other run
    waits where it is. Without an answer in time Prefect marks the run as failed.
    """
    choices = plans_to_choose(run)
    wait = suspend_flow_run if deployment.id else pause_flow_run
    form = form_of(run, choices)
    given = cast("Any", wait(wait_for_input=form, timeout=seconds, key=_KEY))
    return Answer(choices[given.plan] if given.decision == "publish" else None, given.reason)


def plans_to_choose(run: Outcome) -> dict[str, str]:
    """Return the digests of the plans that may be published by what the form says of them, the cheapest first."""
    return {_told(run, row): row["plan"] for row in choices_of(run)}


def _told(run: Outcome, row: Mapping[str, Any]) -> str:
    metric, shipped = run.manifest.target.metric, row["plan"] == run.plan.digest
    told = [percent(row["cost_ratio"], 1), f"{METRIC_NAMES[metric]} {metric_text(metric, row[metric])}"]
    told += [f"{row['layers_narrowed']} narrowed", row["plan"][:8], *(["proposed"] if shipped else [])]
    return " · ".join(told)  # short, since the page shows some 45 letters of it


def form_of(run: Outcome, choices: Mapping[str, str]) -> type[RunInput]:
    """Return the form's fields; Prefect checks an answer against them before the run goes on."""
    cost = f"its cost as a share of all {run.manifest.wide}'s, its score, and how many layers are narrowed"
    proposed = next((text for text, digest in choices.items() if digest == run.plan.digest), next(iter(choices)))
    fields: dict[str, Any] = {
        "decision": (Literal["publish", "decline"], Field(description="Whether a model is published at all.")),
        "plan": (
            Literal[tuple(choices)],
            Field(default=proposed, description=f"The plan to publish: {cost}. All of them meet the target."),
        ),
        "reason": (str, Field(default="", description="For the log of the run.")),
    }
    form = create_model("Approval", __base__=RunInput, **fields)
    return form.with_initial_data(description=_description(run))


def _description(run: Outcome) -> str:
    said = summary(run.manifest)
    return (
        f"**{said.headline}.** {said.verdict}\n\nNothing is published until you choose. The proposed model and its "
        f"report: `{run.manifest.sources.output or run.folder}`"
    )
