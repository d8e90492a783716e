"""The charts: written in Altair, drawn from their stored structures, saved as files."""

from __future__ import annotations

from pathlib import Path

import altair as alt
import pytest
from fit_results import result, write

from convatlas.report import charts, draw, palette, rows, save_charts


def test_the_stored_structures_are_what_altair_writes() -> None:
    assert charts.SPECIFICATIONS.read_text(encoding="utf-8") == charts.written(), (
        "specifications.json is out of date: run `python -m convatlas.report.charts`"
    )


@pytest.mark.parametrize("name", rows.ROWS)
def test_altair_and_the_report_draw_the_same_chart(name: str) -> None:
    content = result(["ants", "bees", "wasps"])
    with alt.data_transformers.enable(consolidate_datasets=False):
        assert getattr(charts, name)(content).to_dict() == draw.specification(name, content)


def test_stages_keep_their_order_and_test_figures_are_a_second_mark() -> None:
    content = result()
    content["stages"].reverse()  # no alphabet's order
    svg = draw.svg("ladder", content)
    assert svg.index(">stage3<") < svg.index(">stage2<") < svg.index(">stage1<")
    assert rows.TEST in svg
    assert rows.TEST not in draw.svg("ladder", result(tested=False))


def test_the_front_holds_the_plans_that_none_beats_in_time_and_accuracy() -> None:
    drawn = rows.fill("plans", result())["data"]["values"]
    assert [row["plan"] for row in drawn] == [
        "probe:stage3",
        "tune:stage3",
        "tune:all",
    ]  # what was not tried has no accuracy
    assert [row["front"] for row in drawn] == [True, True, False]
    assert all(row["seconds"] > 0 for row in drawn)  # the axis is logarithmic
    svg = draw.svg("plans", result())
    assert ">tune:all<" in svg and ">scratch<" not in svg


def test_confusion_keeps_the_order_of_the_classes_and_counts_every_image() -> None:
    names = ["wasps", "ants", "bees"]
    drawn = rows.fill("confusion", result(names))["data"]["values"]
    assert [row["truth"] for row in drawn[::3]] == names
    assert sum(row["count"] for row in drawn) == 30
    svg = draw.svg("confusion", result(names))
    assert svg.index(">wasps<") < svg.index(">ants<") < svg.index(">bees<")


def test_phases_add_up_to_the_total_and_never_below_zero() -> None:
    content = result()
    assert sum(seconds for _, seconds in rows.phases(content)) == pytest.approx(9.7)
    content["seconds"]["total"] = 1.0  # phases that ran at the same time
    assert dict(rows.phases(content))["other"] == 0


def test_every_colour_of_the_charts_follows_light_and_dark() -> None:
    lights, darks = zip(*palette.PALETTE.values(), strict=True)
    assert len({*lights, *darks}) == 2 * len(palette.PALETTE)
    fixed = {"#000", "#fff", "black", "white", "#888", "#ddd"}  # what Vega uses where nothing is said
    for name in rows.ROWS:
        svg = draw.svg(name, result(["a", "b", "c"]))
        assert not [colour for colour in fixed if f'="{colour}"' in svg], name


def test_the_text_of_light_and_dark_pages_is_legible() -> None:
    for background in ("paper", "raised"):
        for text in ("ink", "muted", "accent", "wrong"):
            for mode in (0, 1):
                contrast = _contrast(palette.PALETTE[text][mode], palette.PALETTE[background][mode])
                assert contrast >= 4.5, (text, background, mode, contrast)


def _contrast(first: str, second: str) -> float:
    """The contrast ratio of WCAG 2.2, from 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def test_charts_are_saved_as_files(tmp_path: Path) -> None:
    folder = write(result(), tmp_path / "fit")
    paths = save_charts(folder)
    assert len(paths) == 2 * len(rows.ROWS)
    for path in paths:
        start = path.read_bytes()[:4]
        assert start == (b"<svg" if path.suffix == ".svg" else b"\x89PNG")
    with pytest.raises(ValueError, match="gif"):
        save_charts(folder, formats=["gif"])
