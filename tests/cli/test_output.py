"""Tables that line up, and bars on terminals only."""

from __future__ import annotations

import io
import json
import sys

import pytest

from convatlas.cli.output import percent, problems_text, progress_bars, put_json, rate_text, table


def test_a_table_lines_up() -> None:
    lines = table(("name", "count"), [("a", "1"), ("longer", "1,000")], right=(1,)).splitlines()
    assert lines == ["name    count", "a           1", "longer  1,000"]
    assert table(("only", "header"), []) == "only  header"


def test_percents() -> None:
    assert (percent(0.98765), percent(1.0), percent(None)) == ("98.8 %", "100.0 %", "–")


@pytest.mark.parametrize(("speed", "told"), [(None, ""), (0.4, "2.5 s each"), (3.21, "3.2/s"), (1234.5, "1,234/s")])
def test_slow_work_has_a_rate_too(speed: float | None, told: str) -> None:
    assert rate_text(speed) == told


def test_json_is_ascii_whatever_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    put_json({"été": "蜂\udce9"})
    out, err = capsys.readouterr()
    assert out.isascii() and err == ""
    assert json.loads(out) == {"été": "蜂\udce9"}


def test_problems_show_ten_paths_and_count_the_others() -> None:
    problem = {
        "kind": "empty",
        "severity": "error",
        "paths": [f"{i}.png" for i in range(1234)],
        "message": "Many.",
        "remedy": "Look.",
    }
    lines = problems_text([problem]).splitlines()
    assert lines[0] == "error: Many. [empty]"
    assert lines[1:11] == [f"    {i}.png" for i in range(10)]
    assert lines[11:] == ["    … and 1,224 more (--json lists all)", "  → Look."]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_are_drawn_on_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, drawn in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress_bars() as progress:
            for i in range(5):
                progress("decode and forward", i + 1, 5)
            progress("solve", 0, 1)
        assert ("decode and forward" in stream.getvalue()) == drawn


def test_bars_leave_stdout_alone_and_survive_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(KeyboardInterrupt), progress_bars() as progress:
        progress("solve", 0, 1)
        raise KeyboardInterrupt
    assert capsys.readouterr().out == ""


def test_of_many_findings_of_a_kind_some_are_shown_and_all_counted() -> None:
    leaks = [
        {"severity": "error", "message": f"leak {i}", "kind": "leak", "paths": [], "remedy": "Mend it."}
        for i in range(9)
    ]
    other = {**leaks[0], "message": "wrong", "kind": "conflict"}
    text = problems_text([*leaks, other], most=3)
    assert text.count("leak [") == 0 and text.count("Mend it.") == 4 and "wrong [conflict]" in text
    assert "… and 6 more [leak]" in text and "… and" not in problems_text(leaks)
