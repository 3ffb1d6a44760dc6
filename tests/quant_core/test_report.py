"""The report's page: what it says, and that nothing from a model can break it."""

import base64
import hashlib
import json
import math
import re
import shlex
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest

import quant_core.report
from quant_core.precision import PrecisionPlan
from quant_core.report.charts.frontier import frontier_chart
from quant_core.report.charts.loss import loss_chart
from quant_core.report.charts.search import search_chart
from quant_core.report.charts.tensors import tensor_charts
from quant_core.report.page import report_page
from quant_core.report.reproduce import command, next_step, picking
from quant_core.report.sentences.verdict import doubt, verdict
from quant_core.report.tables.costs import costs
from quant_core.report.tables.layers import layer_rows
from quant_core.report.text import count_text, interval, limit_text, metric_text, number, percent
from tests.reports import HOSTILE, changed, everything_narrow, frontier, ladder, missed, mixed, own_metric

RUNS = [mixed, missed, everything_narrow, own_metric, ladder, frontier]
VENDOR = Path(quant_core.report.__file__).parent / "vendor"


class Page(HTMLParser):
    """Start tags and text of a page, scripts apart."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.scripts, self._in = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._in = tag
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        (self.scripts if self._in == "script" else self.texts).append(data)

    @property
    def charts(self):
        """What the charts draw."""
        unpacked = zlib.decompress(base64.b64decode(self.scripts[0]))
        return json.loads(unpacked, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.mark.parametrize("run", RUNS)
def test_every_kind_of_run_has_a_page(run):
    text = report_page(*run())
    page = Page(text)
    assert len(text.encode()) < 3_000_000
    assert page.charts
    assert [tag for tag, _ in page.tags].count("script") == 4


def test_a_page_of_very_many_layers_is_small_and_says_what_it_leaves_out():
    names = tuple(f"/model/block.{index}/attention/self/query/MatMul" for index in range(6000))
    text = report_page(*mixed(names))
    page = Page(text)
    assert len(text.encode()) < 3_000_000
    assert len(page.charts["loss"]["points"]) == 4000
    assert "The 4,000 of 6,000 probes with the largest losses" in page.text
    assert "The 1,000 layers whose narrowing costs most; all 6,000 are in" in page.text
    assert "1,500 of 6,000 tensors" in page.text


def test_a_very_long_name_is_shortened_in_its_middle():
    page = Page(report_page(*mixed(("a" * 10_000 + "z", "b"))))
    assert "a" * 79 + " … " + "a" * 78 + "z" in page.text
    assert "a" * 200 not in page.text


@pytest.mark.parametrize("run", RUNS)
def test_the_page_refers_to_nothing_outside(run):
    for tag, attributes in Page(report_page(*run())).tags:
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            value = attributes.get(name)
            is_picture = (tag, name) == ("img", "src") and value.startswith("data:image/png;base64,")
            assert is_picture or value in (None, "data:,"), tag


def test_its_policy_allows_only_its_own_scripts():
    page = Page(report_page(*mixed()))
    policy = next(attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes)
    allowed = re.search(r"script-src ([^;]*)", policy)[1].split()
    assert policy.startswith("default-src 'none'")
    assert len(allowed) == 3
    assert all(source.startswith("'sha256-") for source in allowed)


def test_names_of_a_model_stay_text():
    page = Page(report_page(*mixed()))
    assert not [attributes for _, attributes in page.tags if "onerror" in attributes]
    assert "img" not in [tag for tag, _ in page.tags]
    assert page.charts["loss"]["points"][1]["text"][0] == HOSTILE
    assert " ".join(HOSTILE.split()) in page.text


def test_scores_that_are_not_numbers_are_left_out_of_the_chart():
    manifest, tables = mixed()
    manifest = changed(manifest, {"scores.wide.sqnr_db": math.inf})
    scores = pa.array([math.nan, 0.49, math.inf])
    search = tables["search"].set_column(tables["search"].column_names.index("score"), "score", scores)
    page = Page(report_page(manifest, tables | {"search": search}))
    assert [point["step"] for point in page.charts["search"]["points"]] == [2]
    assert "∞" in page.text


def test_the_verdict_has_the_numbers():
    assert verdict(mixed()[0]) == (
        "2 of 3 layers, 81% of the multiply-accumulates, run at a8w8 instead of a16w8, which takes 41% off the bit "
        "operations: L2 distance is 0.490, within the target of at most 0.5; on held-out data it is 0.490."
    )
    assert verdict(missed()[0]) == (
        "All 3 layers stay at a16w8: L2 distance is 0.420, outside the target of at most 0.1."
    )
    assert verdict(own_metric()[0]).count("pkg.mod:accuracy") == 1


def test_a_score_within_the_limit_whose_bound_is_not_is_said_to_be_unsure():
    manifest = changed(missed()[0], {"target.limit": 0.43, "target.confidence": 0.95, "target.bound": 0.44})
    assert verdict(manifest).endswith("L2 distance is 0.420, within the target of at most 0.43, but not surely.")


def test_an_interval_that_reaches_beyond_the_limit_is_said():
    manifest = mixed()[0]
    assert not doubt(manifest)
    manifest = changed(manifest, {"standard_errors.holdout.l2": 0.01})
    assert "held-out data reaches beyond" in doubt(manifest)
    manifest = changed(manifest, {"standard_errors.mixed.l2": 0.01})
    assert "evaluation data and on the held-out" in doubt(manifest)
    manifest = changed(manifest, {"scores.holdout": {"l2": 0.51}})
    assert doubt(manifest) == "On the held-out data the same model misses the target."


def test_the_loss_chart_is_in_graph_order_and_knows_what_was_taken():
    manifest, tables = ladder()
    points = loss_chart(manifest, tables["layers"], tables["sensitivity"])["points"]
    assert [point["layer"] for point in points] == [1, 1, 2, 2, 3, 3]
    taken = [(point["layer"], point["precision"]) for point in points if point["taken"]]
    assert taken == [(1, "a8w8"), (2, "a16w8")]


def test_the_search_chart_marks_the_plan_that_is_shipped():
    manifest, tables = mixed()
    chart = search_chart(manifest, tables["search"])
    assert [point["chosen"] for point in chart["points"]] == [False, True, False]
    assert [point["accepted"] for point in chart["points"]] == [True, True, False]
    costs = tables["search"].column("cost").to_pylist()
    assert [point["share"] for point in chart["points"]] == [cost / costs[0] for cost in costs]
    assert chart["costLabel"] == "bit operations, share of all a16w8"


def test_of_a_plan_that_was_tried_again_the_last_score_is_the_one_that_is_shipped():
    manifest, tables = mixed()
    search = tables["search"]
    again = search.set_column(0, search.schema.field("step"), pa.array([3, 4, 5], pa.int32())).slice(1, 1)
    chart = search_chart(manifest, pa.concat_tables([search, again]))
    assert [point["chosen"] for point in chart["points"]] == [False, False, False, True]


def test_of_plans_with_the_same_precisions_the_one_with_the_shipped_tensors_in_float_is_marked():
    manifest, tables = mixed()
    search, tensors = tables["search"], {"a": "float32"}
    in_float = PrecisionPlan.from_dict(manifest.plan, tensors).digest
    row = search.slice(1, 1).set_column(1, search.schema.field("plan"), pa.array([in_float]))
    row = row.set_column(0, search.schema.field("step"), pa.array([3], pa.int32()))
    for shipped, found in ((manifest, 1), (changed(manifest, {"tensors": tensors}), 3)):
        points = search_chart(shipped, pa.concat_tables([search, row]))["points"]
        assert [place for place, point in enumerate(points) if point["chosen"]] == [found]


def test_the_frontier_is_that_of_the_target_with_the_shipped_plan_marked():
    manifest, tables = frontier()
    points = frontier_chart(manifest, tables["frontier"])["points"]
    assert [point["score"] for point in points] == [0.53, 0.49, 0.44, 0.42]
    assert [point["chosen"] for point in points] == [False, True, False, False]
    assert [point["accepted"] for point in points] == [False, True, True, True]
    assert points[1]["text"][0].endswith("of the bit operations: meets the target, shipped")
    command = "narrowcast pick DIR --max-l2"
    assert picking(manifest, points).command == f"{command} 0.53"
    assert picking(manifest, points[1:]).command == f"{command} 0.44"
    assert picking(manifest, points[1:2]) is None


def test_a_shipped_plan_that_is_beaten_is_shown_beside_the_frontier():
    manifest, tables = frontier()
    beaten = json.loads(tables["frontier"]["precisions"][2].as_py())
    points = frontier_chart(changed(manifest, {"plan": beaten}), tables["frontier"])["points"]
    assert [(point["score"], point["unbeaten"]) for point in points if point["chosen"]] == [(0.5, False)]


def test_a_histogram_keeps_every_value_in_few_bins():
    manifest, tables = mixed()
    charts = tensor_charts(manifest.plan, tables["layers"], tables["calibration"])
    for chart in charts:
        assert sum(chart["counts"]) == 5000
        assert len(chart["counts"]) <= 100
        assert chart["start"] <= chart["min"]
        assert chart["start"] + chart["width"] * len(chart["counts"]) >= chart["max"]
    assert [found["used"] for found in charts[-1]["ranges"]] == [True, True]
    assert [found["cut"] for found in charts[0]["ranges"]] == ["none", "0.160%"]


def test_tensors_need_no_ranges():
    manifest, tables = mixed()
    bare = tables["calibration"].replace_schema_metadata(None)
    assert report_page(manifest, tables | {"calibration": bare})


def test_layers_say_where_the_precision_changes():
    manifest, tables = mixed()
    rows = layer_rows(manifest, tables["layers"], tables["sensitivity"])
    assert [row.boundary for row in rows] == ["", "", "a8w8"]
    assert [row.places for row in rows] == [("1",), ("2",), ("3",)]


def test_costs_are_those_of_the_plans():
    manifest, tables = mixed()
    shares = {cost.name: cost.bops_share for cost in costs(manifest, tables["layers"])}
    assert shares == {"float32": 0, "all a16w8": 1, "mixed, as shipped": 0.75, "all a8w8": 0.5}


def test_the_command_is_the_one_of_the_run():
    words = shlex.split(command(mixed()[0]).replace("\\\n", " "))
    assert words[:3] == ["narrowcast", "auto", "my model.onnx"]
    assert words[words.index("--max-l2") + 1] == "0.5"
    assert "--wide" not in words
    assert "--narrow" not in words


def test_the_command_has_options_that_are_not_usual():
    options = {"narrow": ["a16w8", "a8w8"], "wide": "a16w16", "per_channel": False, "samples": 64}
    manifest = changed(own_metric()[0], {f"config.{name}": value for name, value in options.items()})
    words = shlex.split(command(manifest).replace("\\\n", " "))
    assert words[words.index("--narrow") + 1] == "a16w8,a8w8"
    assert words[words.index("--wide") + 1] == "a16w16"
    assert words[words.index("--samples") + 1] == "64"
    assert words[words.index("--metric") + 1] == "pkg.mod:accuracy"
    assert words[words.index("--no-per-channel") + 1].startswith("--")


@pytest.mark.parametrize(("run", "limit"), [(mixed, "0.53"), (missed, "0.42"), (everything_narrow, "0.455")])
def test_the_next_step_is_the_nearest_other_outcome(run, limit):
    manifest, tables = run()
    words = shlex.split(next_step(manifest, tables["search"]).command.replace("\\\n", " "))
    assert words[words.index("--max-l2") + 1] == limit


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.5, "0.500"),
        (-1.5, "\N{MINUS SIGN}1.50"),
        (123.4, "123"),
        (1.234e-5, "1.23e\N{MINUS SIGN}5"),
        (math.inf, "∞"),
        (1e9, "1.00e9"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0%"), (1.0, "100%"), (0.814, "81%"), (0.9999, ">99.9%"), (0.0001, "<1%")]
)
def test_nearly_all_is_not_all(share, text):
    assert percent(share) == text


def test_units():
    assert metric_text("top1_drop", 0.004) == "0.40 points"
    assert metric_text("top1", 0.88) == "88.00%"
    assert limit_text("top1_drop", 0.005) == "0.5 points"
    assert limit_text("sqnr_db", 30.0) == "30 dB"
    assert count_text(41_300_000) == "41.3 M"
    assert interval(1.0, None) is None
    assert interval(1.0, 0.5) == pytest.approx((0.02, 1.98), abs=1e-4)


def _luminance(colour):
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one, other):
    brighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def test_colours_can_be_told_apart_in_light_and_dark():
    """What axe-core cannot judge: text and marks inside of charts."""
    palettes = re.findall(r":root \{([^}]*)\}", (VENDOR.parent / "templates" / "style.css").read_text())
    assert len(palettes) == 3  # light, dark, printed
    for palette in (dict(re.findall(r"--([a-z-]+): (#\w{6})", text)) for text in palettes):
        for text in ("ink", "soft", "narrow", "wide", "limit", "met"):
            assert _contrast(palette[text], palette["surface"]) >= 4.5, text
        assert _contrast(palette["ink"], palette["raised"]) >= 4.5
        assert _contrast(palette["narrow-ink"], palette["narrow"]) >= 4.5
        assert _contrast(palette["bins"], palette["surface"]) >= 3


def test_the_libraries_in_the_page_are_those_the_notice_names():
    notice = (VENDOR / "NOTICE.md").read_text()
    for script in VENDOR.glob("*.js"):
        assert hashlib.sha256(script.read_bytes()).hexdigest() in notice
