"""The page and the charts of a comparison: drawn from stored structures, labels clear of each other, offline, and true to the result."""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import altair as alt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_page import Seen

from convatlas import catalogue
from convatlas.errors import ConvAtlasError
from convatlas.jobs.compare import compare
from convatlas.report import comparison, comparison_charts, palette
from convatlas.report.comparison_rows import DISPLAY, LINEAGES, MEASURED, drawing, figures
from convatlas.report.draw import svg_of
from convatlas.report.placement import LETTER, LINE, Box, Disc, place
from convatlas.report.rows import NARROW, WIDE
from convatlas.report.timeline import OURS, PRINTED, computed_margin
from convatlas.studies.ilsvrc import ilsvrc

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</script><b>x",
    "{{ 7 * 7 }}",
    "日本語",
    "nul\x00",
)


def measured(result: dict[str, Any]) -> dict[str, Any]:
    """A comparison as if everything had been measured: each figure follows from the mult-adds, so that all are known."""
    found = copy.deepcopy(result)
    for row in found["networks"]:
        for place_, quantity in enumerate(MEASURED):
            value = row["mult_adds"] ** 0.8 / 10 ** (7 - place_)
            row[quantity] = {"value": value, "low": 0.9 * value, "high": 1.2 * value, "rounds": [value], "reason": ""}
    found["by"], found["cost"] = list(MEASURED), "latency"
    found["fronts"] |= {quantity: [found["networks"][0]["name"]] for quantity in MEASURED}
    found["correlations"] = dict.fromkeys(MEASURED, 1.0)
    found["measured"] = {
        "device": "cpu", "processor": "An abacus", "threads": 1, "torch": "2.15.0", "batch": 8, "rounds": 5,
        "quantities": list(MEASURED), "mode": "plain", "energy": "RAPL", "memory": "resident",
    }  # fmt: skip
    return found


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return compare().json


def page_of(content: dict[str, Any], folder: Path) -> Seen:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compare.json").write_text(json.dumps(content))
    text = comparison.render(folder).read_text(encoding="utf-8")
    assert "\x00" not in text
    return Seen(text)


def test_the_stored_structures_are_what_altair_writes() -> None:
    assert comparison_charts.SPECIFICATIONS.read_text(encoding="utf-8") == comparison_charts.written(), (
        "comparison_specifications.json is out of date: run `python -m convatlas.report.comparison_charts`"
    )


def test_altair_and_the_page_draw_the_same_charts(result: dict[str, Any]) -> None:
    content = measured(result)
    with alt.data_transformers.enable(consolidate_datasets=False):
        for figure in figures(content):
            drawn = comparison_charts.chart(content, figure).to_dict()
            assert drawn == comparison.specification(content, figure), figure


def test_every_family_has_a_lineage_and_every_lineage_a_colour() -> None:
    families = [family for names in LINEAGES.values() for family in names]
    assert sorted(families) == sorted({network.family for network in catalogue.networks().values()})
    scale = comparison_charts.structure("bars")["layer"][0]["encoding"]["fill"]["scale"]
    assert scale["domain"] == list(LINEAGES)
    assert len(set(scale["range"])) == len(LINEAGES)
    assert set(scale["range"]) <= set(palette.LIGHT.values())


def test_which_figures_there_are(result: dict[str, Any]) -> None:
    assert figures(result) == ["accuracy_mult_adds", "density", "timeline", "margins"]
    assert figures(measured(result)) == [
        "accuracy_latency", "accuracy_mult_adds", "accuracy_throughput", "accuracy_memory", "accuracy_energy", "density",
        "cost_latency", "cost_throughput", "cost_memory", "cost_energy", "timeline", "margins",
    ]  # fmt: skip
    folders = {**result, "ilsvrc": None}
    assert figures(folders) == ["accuracy_mult_adds", "density"]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_points_are_the_results_figures(result: dict[str, Any], width: int) -> None:
    content = measured(result)
    rows = {row["name"]: row for row in content["networks"]}
    for quantity in ("mult_adds", *MEASURED):
        _, filled = drawing(content, f"accuracy_{quantity}", width)
        points = {point["name"]: point for point in filled["datasets"]["points"]}
        assert set(points) == set(rows)
        most = max(row["parameters"] for row in rows.values())
        largest = max(point["area"] for point in points.values())
        for name, point in points.items():
            value = rows[name][quantity]
            expected = value["value"] if isinstance(value, dict) else value
            assert point["x"] == pytest.approx(expected * DISPLAY[quantity][2])
            assert point["y"] == rows[name]["accuracy"]
            assert point["area"] / largest == pytest.approx(rows[name]["parameters"] / most)
            assert point["front"] == (name in content["fronts"][quantity])


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("figure", ["accuracy_mult_adds", "accuracy_throughput", "cost_latency"])
def test_labels_of_the_default_set_meet_neither_each_other_nor_marks(
    result: dict[str, Any], figure: str, width: int
) -> None:
    _, filled = drawing(measured(result), figure, width)
    labels, points = filled["datasets"]["labels"], filled["datasets"]["points"]
    settings_ = {parameter["name"]: parameter["value"] for parameter in filled["params"]}

    def at(point: dict[str, Any]) -> tuple[float, float]:
        across = math.log(point["x"] / settings_["x_low"]) / math.log(settings_["x_high"] / settings_["x_low"])
        if figure.startswith("cost"):
            up = math.log(point["y"] / settings_["y_low"]) / math.log(settings_["y_high"] / settings_["y_low"])
        else:
            up = (point["y"] - settings_["y_low"]) / (settings_["y_high"] - settings_["y_low"])
        return filled["width"] * across, filled["height"] * (1 - up)

    boxes = []
    for label in labels:
        long = LETTER * len(label["name"])
        left = label["px"] - {"left": 0, "center": long / 2, "right": long}[label["align"]]
        boxes.append(Box(left, label["py"] - LINE / 2, left + long, label["py"] + LINE / 2))
    for i, box in enumerate(boxes):
        assert not [other for other in boxes[:i] if box.meets(other)], labels[i]["name"]
        for point in points:
            radius = 4 if labels[i]["front"] else math.sqrt(point["area"]) / 2
            if point["name"] != labels[i]["name"]:
                assert not Disc(*at(point), radius).meets(box), (labels[i]["name"], point["name"])
    shown = {label["name"] for label in labels}
    front = {point["name"] for point in points if point["front"]}
    assert len(front - shown) <= (0 if width == WIDE else 1)
    if width == WIDE and figure.startswith("accuracy"):
        assert len(shown) >= len(points) - 3


DISCS = st.lists(
    st.builds(Disc, st.floats(0, 400), st.floats(0, 300), st.floats(1, 25)), min_size=1, max_size=14, unique=True
)


@settings(max_examples=60, deadline=None)
@given(DISCS, st.data())
def test_no_label_is_put_where_something_is(discs: list[Disc], data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.text("abc", min_size=1, max_size=16), min_size=len(discs), max_size=len(discs)))
    important = data.draw(st.lists(st.booleans(), min_size=len(discs), max_size=len(discs)))
    taken = [Box(100, 100, 180, 140)]
    found = place(discs, texts, important=important, width=400, height=300, taken=taken)
    assert found == place(discs, texts, important=important, width=400, height=300, taken=taken)
    boxes = [label.box for label in found if label is not None]
    for i, box in enumerate(boxes):
        assert box.left >= 0 and box.top >= 0 and box.right <= 400 and box.bottom <= 300
        assert not any(box.meets(other) for other in [*boxes[:i], *taken])
    for i, label in enumerate(found):
        for k, disc in enumerate(discs):
            if label is not None and k != i:
                assert not (disc._replace(radius=min(4.0, disc.radius)) if important[i] else disc).meets(label.box)


def test_a_lonely_label_stands_beside_its_mark() -> None:
    (label,) = place([Disc(100, 100, 10)], ["resnet50"], important=[False], width=400, height=200)
    assert label is not None and (label.align, label.y, label.leader) == ("left", 100, None)
    assert 110 < label.x < 116
    (label,) = place([Disc(390, 100, 5)], ["resnet50"], important=[False], width=400, height=200)
    assert label is not None and label.align == "right"
    assert place([Disc(20, 20, 5)], ["a" * 80], important=[True], width=100, height=100) == [None]


@pytest.mark.parametrize("accuracies", [(0.5, 0.5), (0.0, 1.0), (0.7, 0.7001)])
def test_scales_hold_their_points_however_close_or_far(result: dict[str, Any], accuracies: tuple[float, float]) -> None:
    content = copy.deepcopy(result)
    content["networks"] = content["networks"][:2]
    for row, accuracy in zip(content["networks"], accuracies, strict=True):
        row["accuracy"], row["parameters"] = accuracy, 5_000_000
    content["networks"][1]["mult_adds"] = content["networks"][0]["mult_adds"]
    content["fronts"] = {"mult_adds": [row["name"] for row in content["networks"]]}
    _, filled = drawing(content, "accuracy_mult_adds", WIDE)
    found = {parameter["name"]: parameter["value"] for parameter in filled["params"]}
    assert found["y_low"] <= min(accuracies) and max(accuracies) <= found["y_high"]
    assert all(0 <= tick <= 1 for tick in found["y_ticks"])
    assert found["x_low"] < filled["datasets"]["points"][0]["x"] < found["x_high"]
    assert found["x_ticks"] and found["y_ticks"]
    assert "NaN" not in svg_of(comparison.specification(content, "accuracy_mult_adds"))


def test_figures_are_as_wide_as_their_screen(result: dict[str, Any]) -> None:
    content = measured(result)
    for figure in figures(content):
        for width in (WIDE, NARROW):
            svg = svg_of(comparison.specification(content, figure, width=width))
            (found,) = re.findall(r'<svg[^>]*? width="([\d.]+)"', svg)
            assert width - 30 <= float(found) <= width + 24, (figure, width)


def test_every_colour_follows_light_and_dark(result: dict[str, Any]) -> None:
    content = measured(result)
    known = set(palette.LIGHT.values()) | {"none", "transparent"}
    for figure in figures(content):
        svg = svg_of(comparison.specification(content, figure))
        assert set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg)) <= known, figure


def test_the_front_is_a_staircase_from_point_to_point(result: dict[str, Any]) -> None:
    _, filled = drawing(result, "accuracy_mult_adds", WIDE)
    steps = [(step["x"], step["y"]) for step in filled["datasets"]["steps"]]
    points = {point["name"]: (point["x"], point["y"]) for point in filled["datasets"]["points"]}
    assert all(points[name] in steps for name in result["fronts"]["mult_adds"])
    assert all(a[0] == b[0] or a[1] == b[1] for a, b in itertools.pairwise(steps))
    assert steps == sorted(steps)
    mixed = {**result, "fronts": {}, "protocol": None}
    assert drawing(mixed, "accuracy_mult_adds", WIDE)[1]["datasets"]["steps"] == []


def test_the_timeline_has_every_winner_in_order_and_fades_what_the_lecture_does_not_print() -> None:
    drawn = comparison.history(ilsvrc(), "timeline")["data"]["values"]
    assert [row["error"] for row in drawn] == [28.2, 25.8, 16.4, 11.7, 7.3, 6.7, 3.57, 2.99, 2.25, 5.1]
    assert [row["depth"] for row in drawn] == [None, None, 8, 8, 19, 22, 152, None, 154, None]
    assert [row["in_lecture"] for row in drawn] == [False, False, *[True] * 5, False, False, False]
    svg = svg_of(comparison.history(ilsvrc(), "timeline"))
    places = [
        svg.rindex(f">{text}<")
        for text in ("NEC-UIUC", "AlexNet", "VGG (2nd)", "GoogLeNet", "SENet", "a trained person")
    ]
    assert places == sorted(places)
    narrow = comparison.history(ilsvrc(), "timeline", width=NARROW)["data"]["values"]
    assert [row["label"] for row in narrow][4:6] == ["2014 VGG (2nd)", "2014 GoogLeNet"]


def test_the_margins_are_the_lectures_but_for_the_one_it_does_not_print() -> None:
    drawn = comparison.history(ilsvrc(), "margins")["data"]["values"]
    assert [(row["kind"], row["margin"]) for row in drawn[1:]] == [(PRINTED, margin) for margin in (16, 27, 11, 12)]
    assert drawn[0]["kind"] == OURS
    assert drawn[0]["margin"] == pytest.approx(100 * (3.581 - 3.567) / 3.581)
    assert computed_margin({"first": 60, "second": 50, "higher_is_better": True}) == pytest.approx(20)


def test_the_page_is_whole_and_offline(result: dict[str, Any], tmp_path: Path) -> None:
    for content in (result, measured(result), {**result, "ilsvrc": None, "protocol": None, "fronts": {}}):
        page = page_of(content, tmp_path / "page")
        assert not page.open
        assert page.tags["script"] == 1
        assert not {"link", "iframe", "object", "embed", "base", "form", "img"} & set(page.tags)
        for tag, name, value in page.attributes:
            assert not name.startswith("on"), (tag, name, value)
            if name in ("src", "href", "xlink:href", "srcset", "action"):
                assert value.startswith("#"), (tag, name, value)
        text = (tmp_path / "page/compare.html").read_text(encoding="utf-8")
        assert set(re.findall(r"https?://[^\s\"'<)]+", text)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import\(", text)
        assert not re.search(
            r"\b(undefined|NaN|None|nan)\b", re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
        )
        identifiers = [value for _, name, value in page.attributes if name == "id"]
        assert len(identifiers) == len(set(identifiers))
        anchors = {value[1:] for _, name, value in page.attributes if name == "href"}
        assert anchors <= set(identifiers)
        assert page.headings[0] == 1 and page.headings.count(1) == 1


def test_the_page_says_what_the_result_says(result: dict[str, Any], tmp_path: Path) -> None:
    text = page_of(measured(result), tmp_path / "page").text
    for row in result["networks"]:
        assert f"{row['name']} {100 * row['accuracy']:.2f} %" in text
        assert f"{row['parameters']:,}" in text
    for expected in (
        result["answer"],
        result["notes"][0],
        f"ImageNet-1k, {result['protocol']['measured']}",
        "An abacus, CPU",
        "rank correlation of 1.00",
        "28.2 %",
        "Printed by the lecture.",
    ):
        assert expected in text


def test_marks_are_named_so_that_pointing_finds_their_row(result: dict[str, Any], tmp_path: Path) -> None:
    page = page_of(result, tmp_path / "page")
    rows = {value for _, name, value in page.attributes if name == "data-name"}
    assert rows == {row["name"] for row in result["networks"]}
    marks = [value for tag, name, value in page.attributes if name == "aria-label" and tag == "path"]
    for row in rows:
        assert marks.count(row) >= 4  # a bubble and a bar, wide and narrow


def test_what_cannot_be_read_here_is_said_instead_of_drawn(result: dict[str, Any], tmp_path: Path) -> None:
    content = copy.deepcopy(result)
    for row in content["networks"]:
        row["energy"] = {"value": None, "low": None, "high": None, "rounds": [], "reason": "nobody counts here"}
    content["by"], content["unreadable"] = ["energy"], {"energy": ["nobody counts here"]}
    assert "cost_energy" not in figures(content) and "accuracy_energy" not in figures(content)
    assert "Energy on this machine Not readable here: nobody counts here." in page_of(content, tmp_path / "page").text


def test_hostile_names_are_shown_as_they_are(result: dict[str, Any], tmp_path: Path) -> None:
    content = copy.deepcopy(result)
    for row, name in zip(content["networks"], HOSTILE, strict=False):
        row["folder"] = row["name"] = name
    content["networks"] = content["networks"][: len(HOSTILE)]
    content["fronts"] = {"mult_adds": [HOSTILE[0]]}
    page = page_of(content, tmp_path / "page")
    assert page.tags["script"] == 1 and not {"b", "img"} & set(page.tags)
    rows = {value for _, name, value in page.attributes if name == "data-name"}
    assert rows == {*HOSTILE[:-1], r"nul\x00"}


def test_charts_are_files_of_the_same_specification(result: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "compare.json").write_text(json.dumps(result))
    paths = comparison.save_charts(tmp_path)
    assert sorted(path.name for path in paths) == sorted(f"{f}.{s}" for f in figures(result) for s in ("svg", "png"))
    for path in paths:
        assert path.read_bytes()[:4] == (b"<svg" if path.suffix == ".svg" else b"\x89PNG")
    drawn = svg_of({**comparison.specification(result, "density"), "background": "#ffffff"})
    assert (tmp_path / "charts/density.svg").read_text() == drawn


@pytest.mark.parametrize("text", [None, "{", "[]", '{"schema": "convatlas.compare/9"}'])
def test_what_is_no_comparison_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "compare.json").write_text(text)
    with pytest.raises(ConvAtlasError, match=r"compare\.json") as caught:
        comparison.render(tmp_path)
    assert "convatlas compare" in caught.value.remedy


def test_a_page_needs_neither_torch_nor_altair(result: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "compare.json").write_text(json.dumps(result))
    code = (
        "import sys; from pathlib import Path; from convatlas.report import comparison\n"
        "comparison.render(Path(sys.argv[1])); comparison.save_charts(Path(sys.argv[1]))\n"
        "print({'torch', 'altair', 'numpy', 'PIL', 'pandas'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, env=environment)
    assert (done.stdout.strip(), done.stderr) == ("set()", "")
