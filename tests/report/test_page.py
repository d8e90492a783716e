"""The page: offline, inert, complete, and made from the numbers of fit.json alone, whatever the names in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fit_results import result, write

from convatlas.errors import ConvAtlasError
from convatlas.report import render
from convatlas.report.page import options_as_code

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</style></svg><b>x",
    "{{ 7 * 7 }}{% raw %}",
    "مرحبا",
    "日本語",
    "a" * 5000,
    "\u202egnp.exe",
    "nul\x00 escape\x1b[31m half \udcff",
)


class Seen(HTMLParser):
    """Tags, attributes and text of a page, and whether every element was closed in its order."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.headings: list[int] = []
        self.open: list[str] = []
        self.pieces: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).replace("\u202f", " ").split()).replace(" ,", ",")


def seen(content: dict[str, Any], folder: Path) -> Seen:
    return Seen(render(write(content, folder)).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "content",
    [
        result(),
        result(["only"]),
        result([f"class {index}" for index in range(200)], mistakes=200),
        result(mistakes=0, tested=False) | {"problems": [], "calibration": []},
        result(HOSTILE, mistakes=9),
    ],
    ids=["two classes", "one class", "200 classes", "nothing wrong", "hostile names"],
)
def test_a_page_is_whole_inert_and_offline(content: dict[str, Any], tmp_path: Path) -> None:
    page = seen(content, tmp_path / "fit")
    assert not page.open
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "b"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name, value)
        if name in ("src", "href", "xlink:href", "srcset", "action"):
            assert value.startswith(("#", "data:image/")), (tag, name, value)
    assert not re.search(r"url\(|@import", "".join(page.pieces))
    assert not re.search(r"\b(undefined|NaN|None|nan|null)\b", page.text)


def test_identifiers_are_unique_and_headings_in_order(tmp_path: Path) -> None:
    page = seen(result([f"class {index}" for index in range(40)], mistakes=40), tmp_path / "fit")
    identifiers = [value for _, name, value in page.attributes if name == "id"]
    assert len(identifiers) == len(set(identifiers))
    anchors = {value[1:] for _, name, value in page.attributes if name == "href" and value.startswith("#")}
    assert anchors == set(identifiers)
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(page.headings, page.headings[1:], strict=False))


def test_every_chart_and_picture_says_what_it_shows(tmp_path: Path) -> None:
    page = seen(result(), tmp_path / "fit")
    labels = [value for _, name, value in page.attributes if name == "aria-label"]
    ladder = next(label for label in labels if label.startswith("Cross-validated accuracy")).replace("\u202f", " ")
    assert "stage3 (chosen) 70.0 %, 65.0–75.0 %, test 71.0 %" in ladder
    assert page.tags["img"] == sum(name == "alt" for _, name, _ in page.attributes) == 2
    assert page.tags["svg"] == 12  # five charts in two widths, two in one


def test_options_are_code_and_nothing_else_is_markup() -> None:
    told = str(options_as_code("not tried: --budget 10m tries it, --budget 0 tells; --no-report and <b> -- 3"))
    assert told == (
        'not tried: <code class="option">--budget 10m</code> tries it, <code class="option">--budget 0</code> tells; '
        '<code class="option">--no-report</code> and &lt;b&gt; -- 3'
    )


def test_hostile_names_are_shown_as_they_are(tmp_path: Path) -> None:
    page = seen(result(HOSTILE, mistakes=9), tmp_path / "fit")
    for name in HOSTILE[:-1]:
        assert name in "".join(page.pieces)
    assert r"nul\x00 escape\x1b[31m half \udcff" in "".join(page.pieces)


def test_the_page_says_what_the_result_says(tmp_path: Path) -> None:
    text = seen(result(), tmp_path / "fit").text
    for expected in (
        "insects, 2 classes",
        "Which insect is it? The third stage tells them apart.",
        "80.0 % accuracy, 95 % interval 75.0–83.0 %",
        "Protocol: test split of 20 images, read once after every choice.",
        "stage3 chosen 144 70.0 % 65.0–75.0 % 71.0 % 61.0–81.0 %",
        "test (not used for the choice)",
        "4 mistakes in all. The most frequent one: ants taken for bees, 2 of 10 images of that class.",
        "true ants 2.0 % said bees 98.0 % /home/ana/insects/ants/0.jpg",
        "The file is cut short. Replace it by a whole copy. /home/ana/insects/ants/broken.jpg",
        "and 150 more, all in fit.json",
        "9.7 s in all.",
        "forward running them through the network, every stage at once 4.1 s 42 %",
        "other everything else: listing files, the forecast, saving, verifying 0.70 s 7 %",
        "convatlas predict model photo.jpg",
        "convatlas.load('model')",
        "PyTorch 2.15.0",
    ):
        assert expected in text


# (where the number is, what it becomes, how the page spells that)
CHANGES = [
    (("accuracy",), 0.8123, "81.2 %"),
    (("accuracy_interval", 0), 0.7111, "71.1–"),
    (("balanced_accuracy",), 0.6234, "62.3 %"),
    (("expected_calibration_error",), 0.0777, "7.8 %"),
    (("log_loss",), 0.4567, "0.457"),
    (("temperature",), 2.468, "2.47"),
    (("stages", 0, "cv_accuracy"), 0.3219, "32.2 %"),
    (("stages", 1, "cv_interval", 1), 0.9876, "–98.8 %"),
    (("stages", 2, "test_accuracy"), 0.7654, "76.5 %"),
    (("classes", 1, "recall"), 0.4321, "43.2 %"),
    (("classes", 0, "train"), 4321, "4,321"),
    (("confusion", "matrix", 1, 0), 777, "777"),
    (("mistakes", 0, "probability"), 0.8642, "86.4 %"),
    (("calibration", 1, "confidence"), 0.8888, "89 %"),
    (("seconds", "forward"), 5.5, "5.5 s"),
    (("counts", "from_cache"), 4242, "4,242 images taken from the feature cache"),
    (("images", "unreadable"), 17, "17 unreadable"),
    (("accuracy_without_duplicates",), {"accuracy": 0.5432, "accuracy_interval": [0.5, 0.6], "images": 13}, "54.3 %"),
]


def test_every_number_comes_from_the_result(tmp_path: Path) -> None:
    def shown(content: dict[str, Any], name: str) -> str:
        page = seen(content, tmp_path / name)
        return page.text + " ".join(value for _, key, value in page.attributes if key == "aria-label").replace(
            "\u202f", " "
        )

    before = shown(result(), "before")
    changed = result()
    for where, value, spelled in CHANGES:
        assert spelled not in before, spelled
        *path, last = where
        owner: Any = changed
        for key in path:
            owner = owner[key]
        owner[last] = value
    after = shown(changed, "after")
    assert [spelled for _, _, spelled in CHANGES if spelled not in after] == []


def test_large_matrices_are_drawn_in_part_and_said_to_be(tmp_path: Path) -> None:
    text = seen(result([f"class {index}" for index in range(200)], mistakes=200), tmp_path / "many").text
    assert "Of 200 classes only the 15 of the most frequent confusions are drawn; 28 of the 400 mistakes" in text
    assert "The most confused pairs of classes." in text
    assert "are drawn" not in seen(result([f"class {index}" for index in range(30)]), tmp_path / "few").text


def test_pictures_come_only_from_the_assets(tmp_path: Path) -> None:
    content = result(["a", "b", "c", "d"], mistakes=4)
    folder = write(content, tmp_path / "fit")
    (tmp_path / "secret.jpg").write_bytes((folder / "assets/mistake-000.jpg").read_bytes())
    (folder / "assets/mistake-001.jpg").write_text("<svg onload=alert(1)>")
    (folder / "assets/mistake-002.jpg").unlink()
    (folder / "fit.json").write_text(
        (folder / "fit.json").read_text().replace("assets/mistake-000.jpg", "assets/../../secret.jpg")
    )
    page = Seen(render(folder).read_text(encoding="utf-8"))
    assert page.tags["img"] == 1
    assert page.text.count("no picture") == 3


def test_the_page_replaces_an_older_one_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(result(), tmp_path / "fit")
    (folder / "report.html").write_text("older")

    def full(self: Path, *args: Any, **kwargs: Any) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            render(folder)
    assert (folder / "report.html").read_text() == "older"
    assert render(folder) == folder / "report.html"
    assert sorted(path.name for path in folder.iterdir()) == ["assets", "fit.json", "report.html"]


@pytest.mark.parametrize("text", [None, "{", "[]", '{"schema": "convatlas.fit/9"}'])
def test_what_is_no_fit_result_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "fit.json").write_text(text)
    with pytest.raises(ConvAtlasError, match=r"fit\.json") as caught:
        render(tmp_path)
    assert "convatlas fit" in caught.value.remedy


def test_a_report_needs_neither_torch_nor_altair(tmp_path: Path) -> None:
    folder = write(result(), tmp_path / "fit")
    code = (
        "import sys; from pathlib import Path; from convatlas import report\n"
        "early = {'altair', 'vl_convert', 'jinja2', 'PIL', 'numpy'} & set(sys.modules)\n"
        "report.warm(); report.render(Path(sys.argv[1]))\n"
        "print(early, {'torch', 'altair', 'numpy', 'PIL', 'pandas'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, env=environment)
    assert (done.stdout.split(), done.stderr) == (["set()", "set()"], "")


def test_networks_and_evidence_are_sections_where_there_are_any(tmp_path: Path) -> None:
    content = result()
    text = seen(content, tmp_path / "with").text
    for said in ("No difference is shown", "by accuracy", "<i>broken</i> could not be judged", "τ of 0.33"):
        assert said in text
    assert content["evidence"]["forecast"]["words"] in text
    content["networks"] = content["evidence"] = None
    without = seen(content, tmp_path / "without")
    assert not {"networks", "evidence"} & {value for _, name, value in without.attributes if name == "id"}
    assert not {"#networks", "#evidence"} & {value for _, name, value in without.attributes if name == "href"}


def test_a_forecast_that_cannot_be_told_has_no_chart(tmp_path: Path) -> None:
    content = result()
    ahead = content["evidence"]["forecast"]
    ahead |= {"told": False, "words": "It cannot be told.", "band": [], "points": ahead["points"][-1:]}
    page = seen(content, tmp_path / "fit")
    assert "It cannot be told." in page.text
    assert not [value for _, name, value in page.attributes if value.startswith("Learning curve")]
