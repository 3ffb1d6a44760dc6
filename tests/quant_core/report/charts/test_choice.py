"""What the report tells of a plan of the frontier that is chosen, and the line that writes it."""

import json

import numpy as np
import pyarrow as pa
import pytest

from quant_core.precision import PrecisionPlan
from quant_core.report.charts.frontier import frontier_chart
from quant_core.report.page import report_page
from quant_core.storage.schemas import FRONTIER
from quant_core.storage.tables import with_facts
from tests.reports import changed, frontier, mixed


def altered(table, **columns):
    """The frontier with some of its columns replaced, and its cost if one is given."""
    cost = columns.pop("cost_name", "bops")
    rows = table.to_pylist()
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return with_facts(pa.Table.from_pylist(rows, schema=FRONTIER), cost=cost, metric="l2", function=None)


def test_what_changes_is_told_against_the_shipped_plan():
    manifest, tables = frontier()
    shown = frontier_chart(manifest, tables["frontier"])
    for point, row in zip(shown["points"], [0, 1, 3, 4], strict=True):
        plan = json.loads(tables["frontier"]["precisions"][row].as_py())
        told = {shown["layers"][at][0]: new for new, places in point["changes"].items() for at in places}
        assert told == {name: new for name, new in plan.items() if new != manifest.plan[name]}
        assert point["changed"] == len(told)
    assert all(before == manifest.plan[name] for name, before in shown["layers"])
    assert shown["points"][0]["precisions"] == "3 at a8w8"
    assert shown["points"][1]["changed"] == 0 and shown["points"][1]["pick"] is None


def test_a_budget_of_few_digits_names_each_plan():
    manifest, tables = frontier()
    lines = [point["pick"] for point in frontier_chart(manifest, tables["frontier"])["points"]]
    assert lines[0] == "narrowcast pick DIR --max-bops 0.664 --metric l2 --out DIR/picked-0.664"
    assert lines[3] == "narrowcast pick DIR --max-bops 1 --metric l2 --out DIR/picked-1"


def test_plans_that_cost_nearly_the_same_get_the_digits_it_takes():
    manifest, tables = frontier()
    table = altered(tables["frontier"], cost_ratio=[0.66371, 0.66372, 0.7, 0.8, 1.0])
    assert "--max-bops 0.66371 " in frontier_chart(manifest, table)["points"][0]["pick"]


def test_a_limit_names_the_plan_where_no_budget_can():
    manifest, tables = frontier()
    dearer = altered(tables["frontier"], cost_ratio=[0.6, 0.7, 0.8, 0.9, 1.2])
    assert " --max-l2 0.42 " in frontier_chart(manifest, dearer)["points"][-1]["pick"]
    bytes_read = altered(tables["frontier"], cost_name="activation-bytes", l2=[0.53123, 0.49, 0.5, 0.44, 0.42])
    assert " --max-l2 0.532 " in frontier_chart(manifest, bytes_read)["points"][0]["pick"]
    aimed = changed(manifest, {"target.metric": "sqnr_db", "target.limit": 20.0})
    decibels = altered(tables["frontier"], cost_name="activation-bytes", sqnr_db=[20.1234, 21.0, 20.5, 22.0, 23.0])
    assert " --min-sqnr 20.1 " in frontier_chart(aimed, decibels)["points"][0]["pick"]


def test_with_a_confidence_a_plan_whose_bound_a_cheaper_one_meets_has_no_limit_of_its_own():
    manifest, tables = frontier()
    sure = changed(manifest, {"target.confidence": 0.95})
    table = altered(tables["frontier"], cost_name="activation-bytes", bound=[0.6, 0.5, None, 0.55, None])
    assert [bool(point["pick"]) for point in frontier_chart(sure, table)["points"]] == [True, False, False, False]


@pytest.mark.parametrize("folder", ["-out", "my runs/out"])
def test_a_folder_of_any_name_is_quoted(folder):
    manifest, tables = frontier()
    line = frontier_chart(changed(manifest, {"sources.output": folder}), tables["frontier"])["points"][0]["pick"]
    written = {"-out": "./-out --max", "my runs/out": "'my runs/out' --max"}[folder]
    assert line.startswith(f"narrowcast pick {written}")


def test_a_frontier_of_2000_layers_adds_little_to_the_page():
    names = tuple(f"/model/layers.{index}/attention/output/dense/MatMul" for index in range(2000))
    manifest, tables = mixed(names)
    before = len(report_page(manifest, tables))
    generator, count = np.random.default_rng(0), 60
    rows = [
        {
            "plan": PrecisionPlan.from_dict(plan).digest,
            "layers_narrowed": 1000,
            "cost": 500.0 + place,
            "cost_ratio": 0.5 + place / 1000,
            "bound": 0.9 - place / 1000,
            "l2": 0.9 - place / 1000,
            "samples": 2000,
            "precisions": json.dumps(plan),
        }
        for place in range(count)
        for plan in [{name: str(generator.choice(["a8w8", "a16w8"])) for name in names}]
    ]
    table = with_facts(pa.Table.from_pylist(rows, schema=FRONTIER), cost="bops", metric="l2", function=None)
    shown = frontier_chart(manifest, table)["points"]
    assert [sum(map(len, point["changes"].values())) for point in shown] == [point["changed"] for point in shown]
    assert len(report_page(manifest, tables | {"frontier": table})) - before < 300_000
