"""How `narrowcast check` and `narrowcast runtimes` look on a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from quant_core.pipeline.check import Check
from quant_core.report.text import METRIC_NAMES, metric_text
from quant_core.runtimes.kernels import LayerKernel
from quant_core.runtimes.profile import RuntimeProfile

__all__ = ["print_check", "print_runtimes"]


def print_check(screen: Console, found: Check) -> None:
    """Layers, scores and what breaks a rule, then the verdict."""
    if found.kernels:
        screen.print(_layers(found))
    if found.others:
        screen.print(_others(found))
    screen.print(_scores(found))
    for one in found.findings:
        text = f"{one.consequence}: {one.node}: {one.message} ({one.rule})"
        screen.print(text, highlight=False, soft_wrap=True, markup=False)
    if told := _saturation(found):
        screen.print(told, highlight=False, soft_wrap=True, markup=False)
    if found.own:
        screen.print(_own_scores(found), highlight=False, soft_wrap=True, markup=False)
    screen.print(_verdict(found), highlight=False, soft_wrap=True, markup=False)


def _layers(found: Check) -> Table:
    columns = ("layer", "operator", "runs as", "error alone", "without VNNI", "why not in integers")
    table = Table(*columns, title="layers", title_justify="left")
    for kernel in found.kernels:
        off, without = (_share(errors.get(kernel.layer)) for errors in (found.errors, found.saturation))
        table.add_row(escape(kernel.layer), kernel.op_type, kernel.runs_as or "?", off, without, escape(_why(kernel)))
    return table


def _why(kernel: LayerKernel) -> str:
    """Return why a layer is not computed in integers, with the nodes that are the reason."""
    return f"{kernel.why} ({', '.join(kernel.because_of)})" if kernel.because_of else kernel.why


def _others(found: Check) -> Table:
    table = Table("node", "operator", "runs as", title="other nodes", title_justify="left")
    for kernel in found.others:
        table.add_row(escape(kernel.layer), kernel.op_type, kernel.runs_as or kernel.why)
    return table


def _share(error: float | None) -> str:
    return "" if error is None else f"{100 * error:.2g}%"


def _saturation(found: Check) -> str:
    """Say which sums of int8 products saturate on processors without VNNI; empty where none does."""
    wrong = {layer: error for layer, error in found.saturation.items() if error}
    if not wrong:
        return ""
    worst = max(wrong, key=lambda layer: wrong[layer])
    here = (
        "This processor is one of them." if found.saturates_here else "This processor has it: it computes them right."
    )
    return (
        f"On x86 processors without VNNI int8 sums saturate in {len(wrong)} of the layers, as emulated in integers: "
        f"{worst} is off by {_share(wrong[worst])}. {here}"
    )


def _scores(found: Check) -> Table:
    table = Table("score", "as its Q/DQ pairs say", found.runtime, title=_compared_with(found), title_justify="left")
    for name, value in found.reference.items():
        table.add_row(METRIC_NAMES[name], metric_text(name, value), metric_text(name, found.deployed.get(name)))
    return table


def _compared_with(found: Check) -> str:
    return "scores against the float model" if found.compared_with == "float" else "scores against its Q/DQ pairs"


def _own_scores(found: Check) -> str:
    names = {"deployed": "the file", "float": "the float model"}
    return f"By your evaluator {', '.join(f'{names[name]} is at {value:.6g}' for name, value in found.own.items())}."


def _verdict(found: Check) -> str:
    if found.refusal:
        return f"{found.runtime} does not run it: {found.refusal}"
    where = f" on {found.processor}" if found.processor else ""
    if found.differs:
        return f"In {found.runtime}{where} it computes something else than its Q/DQ pairs say."
    return f"In {found.runtime}{where} it computes what its Q/DQ pairs say, as far as these samples show."


def print_runtimes(screen: Console, profiles: Iterable[RuntimeProfile]) -> None:
    """A row a profile, then their rules."""
    table = Table("runtime", "what it is", "scored", "assumes")
    listed = list(profiles)
    for profile in listed:
        table.add_row(profile.name, escape(profile.title), _scored(profile), escape(profile.assumes))
    screen.print(table)
    for profile in listed:
        screen.print(f"\n{profile.name}: {profile.numbers}", highlight=False, soft_wrap=True, markup=False)
        for rule in profile.rules:
            screen.print(
                f"  {rule.name} ({rule.consequence}): {rule.text}", highlight=False, soft_wrap=True, markup=False
            )


def _scored(profile: RuntimeProfile) -> str:
    if profile.opens is None:
        return "as the pairs say"
    return f"there ({profile.package})" if profile.package else "there"
