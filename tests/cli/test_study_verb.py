"""`convatlas study lecture`, and the slides' lists from `convatlas show`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from convatlas.cli.verbs import app
from convatlas.errors import ConvAtlasError
from convatlas.studies.lecture_notation import as_lecture


def test_the_lecture_is_written_and_told_in_words_and_as_json(tmp_path: Path) -> None:
    out = tmp_path / "lecture"
    told = CliRunner().invoke(app, ["study", "lecture", "--out", str(out)], catch_exceptions=False)
    assert told.exit_code == 0
    assert "10 differs" in told.stdout and "358M" in told.stdout and str(out / "lecture.html") in told.stdout
    again = CliRunner().invoke(app, ["study", "lecture", "--out", str(out), "--json"], catch_exceptions=False)
    found = json.loads(again.stdout)  # which an earlier study does not keep from being written anew
    assert found == json.loads((out / "lecture.json").read_text(encoding="utf-8"))
    assert found["schema"] == "convatlas.lecture/1"


def test_a_file_is_no_place_for_a_study(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(ConvAtlasError, match="is a file"):
        CliRunner().invoke(app, ["study", "lecture", "--out", str(tmp_path / "taken")], catch_exceptions=False)
    assert CliRunner().invoke(app, ["study", "lectures"]).exit_code == 2


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_show_prints_the_slides_list(name: str) -> None:
    outcome = CliRunner().invoke(app, ["show", name, "--as", "lecture"], catch_exceptions=False)
    assert outcome.stdout == as_lecture(name) + "\n"
    with pytest.raises(ConvAtlasError, match="has no list of lenet5"):
        CliRunner().invoke(app, ["show", "lenet5", "--as", "lecture"], catch_exceptions=False)
