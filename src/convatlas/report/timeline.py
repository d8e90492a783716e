"""What the charts of ILSVRC's history draw: winners by year with their depth, the human figure, and the margins of 2015.

Both take the content of `studies/ilsvrc.json`, whatever page they stand on. What the lecture does not print is marked so in the rows and
drawn hollow.
"""

from __future__ import annotations

from typing import Any

from convatlas.report import words
from convatlas.report.rows import WIDE

SHALLOW, DEEP, HUMAN = "hand-made features", "convolutional network", "human"
PRINTED, OURS = "printed by the lecture", "not in the lecture"


def timeline(facts: dict[str, Any], width: int = WIDE) -> tuple[str, dict[str, Any]]:
    """Columns on a wide picture, with the depths above them; bars on a narrow one, with the depths behind the figures."""
    rows = [_winner(winner) for winner in facts["winners"]]
    human = facts["human"]
    rows.append(
        {
            "label": f"human|{human['name']}",
            "kind": HUMAN,
            "error": human["top5_error"],
            "text": f"{human['top5_error']:g}",
            "depth": None,
            "depth_text": "",
            "in_lecture": human["in_lecture"],
        }
    )
    for order, row in enumerate(rows):
        row["order"] = order
        row["human"] = human["top5_error"]
        row["beside"] = row["text"] + (f"  ·  {row['depth_text']}" if row["depth_text"] else "")
    if width == WIDE:
        return "timeline", {"data": {"values": rows}}
    for row in rows:
        row["label"] = row["label"].replace("|", " ").replace("human ", "")
    return "timeline_narrow", {"data": {"values": rows}, "width": width}


def _winner(winner: dict[str, Any]) -> dict[str, Any]:
    second = winner["place"] != 1
    return {
        "label": f"{winner['year']}|{winner['name']}{' (2nd)' if second else ''}",
        "kind": SHALLOW if winner["depth_in_words"] == "shallow" else DEEP,
        "error": winner["top5_error"],
        "text": f"{winner['top5_error']:g}",
        "depth": winner["depth"],
        "depth_text": winner["depth_in_words"].replace(" and ", ", "),
        "in_lecture": winner["in_lecture"],
    }


def margins(facts: dict[str, Any], width: int = WIDE) -> tuple[str, dict[str, Any]]:
    """By how much each of the five tracks of 2015 was won."""
    rows = []
    for track in facts["sweep_2015"]["tracks"]:
        printed = track["margin"] is not None
        margin = track["margin"] if printed else computed_margin(track)
        text = f"{margin:.{0 if printed else 1}f}{words.THIN}%"
        rows.append({"track": track["track"], "margin": margin, "kind": PRINTED if printed else OURS, "text": text})
    return "margins", {"data": {"values": rows}, "width": width}


def computed_margin(track: dict[str, Any]) -> float:
    """By how much the first is better than the second, in percent of the second's figure."""
    difference = track["first"] - track["second"]
    return 100 * (difference if track["higher_is_better"] else -difference) / track["second"]


HISTORY = {"timeline": timeline, "margins": margins}
