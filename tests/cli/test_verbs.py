"""Every verb: results on stdout, all else on stderr, and an exit status that a script can rely on."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main
from PIL import Image

import convatlas
from convatlas import cache, catalogue
from convatlas.cli import main
from convatlas.cli.verbs import app
from convatlas.jobs.fit import FitResult
from tiny import CLASSES, STAGES, photo, state, write_photos, write_split, write_weights


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """All of stdout, which must be one JSON value and nothing else."""
        return json.loads(self.out)


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("fit", folder, …)`: the entry point itself, in this process."""

    def command(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["convatlas", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return command


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every verb with the words that call it."""
    root: Any = group or typer.main.get_command(app)
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


VERBS = dict(commands())


def test_the_verbs() -> None:
    assert {" ".join(words) for words in VERBS} >= {
        "list", "show", "check", "fit", "predict", "evaluate", "pack", "demo", "cache show", "cache prune",
    }  # fmt: skip


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_verb_explains_itself_and_its_options(run: Run, words: tuple[str, ...]) -> None:
    outcome = run(*words, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    command = VERBS[words]
    assert command.help and command.help.splitlines()[0].endswith(".")
    for parameter in command.params:
        assert parameter.help, f"{parameter.name} has no help"
        assert any(name in outcome.out for name in (*parameter.opts, parameter.name.upper()))
    assert any("--json" in parameter.opts for parameter in command.params)


def test_the_verbs_are_listed_with_their_help(run: Run) -> None:
    outcome = run("--help")
    assert outcome.code == 0
    for words in VERBS:
        assert words[0] in outcome.out


def test_the_version(run: Run) -> None:
    assert run("--version") == Outcome(0, f"convatlas {convatlas.__version__}\n", "")


@pytest.mark.parametrize(
    "words",
    [
        (), ("fitt",), ("fit",), ("fit", "a", "b"), ("fit", "a", "--depth", "3"), ("fit", "a", "--seed", "one"),
        ("fit", "a", "--seed", "-1"),
        ("fit", "a", "--device", "tpu"), ("fit", "a", "--class-weights", "some"), ("predict",), ("predict", "a"), ("show",),
        ("predict", "a", "b", "--top", "0"), ("evaluate", "a"), ("pack", "lenet5", "--out", "x"), ("pack", "lenet5", "--weights", "x"),
        ("cache",), ("cache", "burn"), ("predict", "a", "b", "--false-reject", "5"), ("predict", "a", "b", "--sets", "most"),
        ("evaluate", "a", "b", "--false-reject", "0%"), ("evaluate", "a", "b", "--sets", "100%"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_status_2(run: Run, words: tuple[str, ...]) -> None:
    outcome = run(*words)
    assert outcome.code == 2
    assert "Usage" in outcome.out + outcome.err
    assert "Traceback" not in outcome.err
    if len(words) > 1:
        assert outcome.out == ""


@pytest.mark.parametrize("flags", [(), ("--json",)])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("check", "{tmp}/absent"), "there is no {tmp}/absent"),
        (("check", "{tmp}"), "no images in {tmp}"),
        (("fit", "{tmp}/absent", "--weights", "{weights}"), "there is no {tmp}/absent"),
        (("fit", "{photos}", "--weights", "{tmp}/absent.pth"), "{tmp}/absent.pth: there is no such weights file"),
        (("fit", "{photos}", "--backbone", "resnet5O"), "unknown model 'resnet5O'; did you mean 'resnet50'?"),
        (("fit", "{photos}", "--weights", "{weights}", "--out", "{foreign}"), "which ConvAtlas did not write"),
        (("predict", "{tmp}", "x.jpg"), "{tmp}: not a model folder"),
        (("evaluate", "{tmp}", "{photos}"), "{tmp}: not a model folder"),
        (("evaluate", "{model}", "{photos}", "--split", "val"), "has no val split"),
        (("evaluate", "{model}", "{tmp}/absent"), "there is no {tmp}/absent"),
        (
            ("predict", "{model}", "{photos}", "--sets", "99%"),
            "24 held-out training images cannot show a coverage of sets",
        ),
        (("predict", "{model}", "{photos}", "--sets", "80%", "--explain", "{tmp}/e"), "Leave one of them out"),
        (("predict", "{model}", "{photos}", "--explain", "--out"), "--explain needs a folder"),
        (
            ("evaluate", "{model}", "{photos}", "--false-reject", "1%"),
            "24 held-out training images cannot show a false-reject",
        ),
        (("evaluate", "{model}", "{photos}", "--sets", "0.9", "--views", "flip"), "not for the views 'flip'"),
        (("pack", "--weights", "{weights}", "--out", "{tmp}/m"), "what its 10 classes are called"),
        (
            ("pack", "--weights", "{weights}", "--out", "{tmp}/m", "--classes", "{tmp}/absent"),
            "{tmp}/absent: cannot be read",
        ),
        (("show", "resnet5O"), "unknown model 'resnet5O'; did you mean 'resnet50'?"),
        (("show", "xyz"), "`convatlas list` shows what there is"),
        (("cache", "prune", "--limit", "plenty"), "'plenty' is not a size"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_data_and_models_are_status_1_with_what_and_remedy(
    run: Run, words: tuple[str, ...], said: str, flags: tuple[str, ...], photos: Path, backbone: Path, fitted: FitResult, tmp_path: Path
) -> None:  # fmt: skip
    foreign = tmp_path.with_name("foreign")
    foreign.mkdir(exist_ok=True)
    (foreign / "thesis.doc").write_text("years of work")
    places = {"tmp": tmp_path, "photos": photos, "weights": backbone, "model": fitted.bundle, "foreign": foreign}
    outcome = run(*(word.format(**places) for word in words), *flags)
    assert (outcome.code, outcome.out) == (1, "")
    message, *remedy = outcome.err.removeprefix("convatlas: ").split("\n  ")
    assert outcome.err.startswith("convatlas: ")
    assert said.format(**places) in " ".join([message, *remedy])
    assert remedy or "did you mean" in message
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.iterdir())


def test_list_shows_what_there_is(run: Run) -> None:
    outcome = run("list")
    assert (outcome.code, outcome.err) == (0, "")
    for name, network in catalogue.networks().items():
        (line,) = [line for line in outcome.out.splitlines() if line.startswith(f"{name} ")]
        assert f"{network.parameters:,}" in line


@pytest.mark.parametrize(("pattern", "count"), [("*", 121), ("resnet*_cifar", 12), ("lenet5", 1), ("squeezenet*", 0)])
def test_list_takes_a_pattern(run: Run, pattern: str, count: int) -> None:
    outcome = run("list", pattern, "--json")
    assert outcome.json["schema"] == "convatlas.list/1"
    assert [row["name"] for row in outcome.json["networks"]] == catalogue.names(pattern)
    assert len(outcome.json["networks"]) == count
    assert len(run("list", pattern).out.splitlines()) == 1 + len(catalogue.names(pattern))


@pytest.mark.parametrize("name", catalogue.networks())
def test_show_shows_the_card_of_every_network(run: Run, name: str) -> None:
    outcome = run("show", name, "--as", "card")
    assert (outcome.code, outcome.err) == (0, "")
    one = convatlas.card(name)
    said = " ".join(outcome.out.split())
    for pairs in one.sections().values():
        for label, text in pairs:
            assert f"{label} {text}" in said
    assert max(map(len, outcome.out.splitlines())) <= 110
    assert run("show", name, "--as", "card", "--json").json == json.loads(json.dumps(one.to_json()))


def test_list_shows_the_weights(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    file = tmp_path / "torch/hub/checkpoints/googlenet-1378be20.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    outcome = run("list", "--weights", "*googlenet*")
    assert (outcome.code, outcome.err) == (0, "")
    header, line = outcome.out.splitlines()
    assert header.split("  ")[0] == "tag"
    assert line.split() == ["torchvision/GoogLeNet_Weights.IMAGENET1K_V1", "googlenet_bn", "69.8", "%", "52", "yes"]
    found = run("list", "--weights", "*", "--json").json
    assert found["schema"] == "convatlas.weights_tags/1"
    assert [row["tag"] for row in found["weights"] if row["path"]] == ["embedded", line.split()[0]]
    assert set(found["weights"][0]) == {"tag", "network", "top1", "megabytes", "licence", "path"}
    nothing = [row for row in found["weights"] if row["tag"] == "timm/nasnetalarge.tf_in1k"]
    assert [(row["network"], row["top1"], row["path"]) for row in nothing] == [("nasnet_a_large", None, None)]


def test_list_recipes_says_how_networks_are_trained(run: Run) -> None:
    outcome = run("list", "--recipes", "nasnet*")
    assert (outcome.code, outcome.err) == (0, "")
    header, *lines = outcome.out.splitlines()
    assert header.split()[:4] == ["recipe", "network", "optimiser", "rate"]
    assert [line.split()[0] for line in lines] == ["nasnet_cifar_2017", "nasnet_mobile_2017", "nasnet_large_2017"]
    found = run("list", "--recipes", "--json").json
    assert found["schema"] == "convatlas.recipes/1" and len(found["recipes"]) > 29
    vgg = next(row for row in found["recipes"] if row["name"] == "vgg_2014")
    assert (vgg["network"], vgg["lr"], vgg["batch_size"]) == ("vgg16", 0.01, 256) and "vgg11" in vgg["networks"]


def test_check_of_sound_data_is_status_0(run: Run, photos: Path) -> None:
    outcome = run("check", photos)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"{photos}: 36 files (24 train, 12 test), 3 classes, split folders")


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder with one of each thing that goes wrong, and what must be said of it."""
    module = runpy.run_path(str(Path(__file__).parent.parent / "data" / "nasty.py"))
    return module["build"](tmp_path_factory.mktemp("nasty") / "insects"), module["EXPECTED"]


def test_check_of_a_nasty_folder_is_status_1_and_names_all(run: Run, nasty: tuple[Path, dict[str, Any]]) -> None:
    folder, expected = nasty
    before = state(folder)
    outcome = run("check", folder)
    assert (outcome.code, outcome.err) == (1, "")
    for kind, (severity, paths, words) in expected.items():
        assert f"[{kind}]" in outcome.out
        (line,) = [line for line in outcome.out.splitlines() if line.endswith(f"[{kind}]")]
        assert line.startswith(f"{severity}: ")
        for text in (*paths, *words):
            assert text in outcome.out
    as_json = run("check", folder, "--json")
    assert as_json.code == 1
    assert {problem["kind"] for problem in as_json.json["problems"]} == set(expected)
    assert state(folder) == before


def test_check_json_has_what_a_script_needs(run: Run, photos: Path) -> None:
    outcome = run("check", photos, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.json["schema"] == "convatlas.check/1"
    assert outcome.json["problems"] == []
    assert outcome.json["classes"] == list(CLASSES)
    assert outcome.json["splits"]["test"] == dict.fromkeys(CLASSES, 4)


def test_a_second_check_decodes_nothing(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run("check", photos, "--json")
    monkeypatch.setattr(sys.modules["convatlas.data.examine"], "decode", lambda *_, **__: pytest.fail("decoded again"))
    assert run("check", photos, "--json") == first


def test_fit_shows_the_answer_the_ladder_and_the_places(run: Run, photos: Path, backbone: Path, tmp_path: Path) -> None:
    outcome = run("fit", photos, "--weights", backbone, "--out", tmp_path / "model")
    assert outcome.code == 0
    result = json.loads((tmp_path / "model/fit.json").read_text(encoding="utf-8"))
    assert outcome.out.startswith(result["answer"])
    for stage in STAGES:
        assert f" {stage} " in outcome.out
    (chosen,) = [line for line in outcome.out.splitlines() if line.startswith("* ")]
    assert result["stage"] in chosen
    assert f"model:   {tmp_path / 'model'}" in outcome.out
    assert f"report:  {tmp_path / 'model/report.html'}" in outcome.out
    assert result["command"].startswith(f"convatlas fit {photos} --weights")
    assert "Traceback" not in outcome.err


def test_fit_json_is_fit_json(run: Run, photos: Path, backbone: Path, tmp_path: Path) -> None:
    outcome = run("fit", photos, "--weights", backbone, "--out", tmp_path / "model", "--no-report", "--json")
    assert outcome.code == 0
    assert outcome.json == json.loads((tmp_path / "model/fit.json").read_text(encoding="utf-8"))
    assert outcome.json["report"] is None


def test_fit_says_on_stderr_what_it_assumed(run: Run, photos: Path, tmp_path: Path) -> None:
    bare = write_weights(tmp_path / "bare.safetensors")
    bare.with_suffix(".json").unlink()
    words = (
        "fit",
        photos,
        "--backbone",
        "resnet20_cifar",
        "--weights",
        bare,
        "--out",
        tmp_path / "m",
        "--no-report",
        "--json",
    )
    outcome = run(*words)
    assert outcome.code == 0
    assert outcome.err.startswith("note: bare.safetensors: no card beside it says how images were prepared")
    assert outcome.json["notes"]


def test_fit_of_data_with_errors_is_done_and_lists_them(run: Run, backbone: Path, tmp_path: Path) -> None:
    root = write_split(tmp_path / "photos", {"train": 4, "test": 2})
    (root / "train/red/zero.png").write_bytes(b"")
    outcome = run("fit", root, "--weights", backbone, "--out", tmp_path / "m", "--no-report")
    assert outcome.code == 0
    assert "error: train/red/zero.png is empty" in outcome.out


@pytest.mark.parametrize(
    ("option", "value"), [("--seed", 7), ("--class-weights", "balanced"), ("--device", "cpu"), ("--device", "auto")]
)
def test_fit_options_reach_the_job(
    run: Run, photos: Path, fitted: FitResult, option: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def job(data: Path, **options: Any) -> FitResult:
        given.update(options, data=data)
        return fitted

    monkeypatch.setattr("convatlas.jobs.fit.fit", job)
    assert run("fit", photos, option, value).code == 0
    assert given[option.removeprefix("--").replace("-", "_")] == value
    assert given["data"] == photos
    assert given["download"] is False
    run("fit", photos, "--download")
    assert given["download"] is True


def test_predict_gives_a_line_an_image_in_order_under_the_names_given(
    run: Run, fitted: FitResult, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    paths = ["test/red/100.png", "./test/../test/blue/101.png", str(photos / "test/green/100.png"), "test/red/100.png"]
    outcome = run("predict", fitted.bundle, *paths)
    assert (outcome.code, outcome.err) == (0, "")
    rows = [line.split("\t") for line in outcome.out.splitlines()]
    assert [row[0] for row in rows] == [str(Path(path)) for path in paths]
    assert [row[1] for row in rows] == ["red", "blue", "green", "red"]
    assert all(0.3 < float(row[2]) <= 1 for row in rows)


def test_predict_json_has_a_row_an_image(run: Run, fitted: FitResult, photos: Path) -> None:
    outcome = run("predict", fitted.bundle, photos / "test", "--top", 2, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.json["schema"] == "convatlas.predict/1"
    assert [row["path"] for row in outcome.json["rows"]] == [
        str(path) for path in sorted((photos / "test").rglob("*.png"))
    ]
    for row in outcome.json["rows"]:
        assert row["label"] == Path(row["path"]).parent.name == row["top"][0]["label"]
        assert row["probability"] == row["top"][0]["probability"]
        assert len(row["top"]) == 2
        assert set(row) == {"path", "label", "probability", "top"}


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_predict_goes_on_past_files_that_cannot_be_read(
    run: Run, fitted: FitResult, photos: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    (tmp_path / "zero.png").write_bytes(b"")
    good = [photos / "test/red/100.png", photos / "test/blue/100.png"]
    bad = [tmp_path / "zero.png", tmp_path / "absent.png"]
    outcome = run("predict", fitted.bundle, good[0], *bad, good[1], *flags)
    assert outcome.code == 1
    for path in bad:
        assert f"convatlas: {path}: " in outcome.err
    if flags:
        assert [row["label"] for row in outcome.json["rows"]] == ["red", None, None, "blue"]
        assert [bool(row.get("error")) for row in outcome.json["rows"]] == [False, True, True, False]
    else:
        assert [line.split("\t")[1] for line in outcome.out.splitlines()] == ["red", "blue"]


def test_predict_says_what_is_none_of_these_and_what_an_image_may_be(
    run: Run, fitted: FitResult, photos: Path, tmp_path: Path
) -> None:
    Image.effect_noise((40, 36), 200).save(tmp_path / "noise.png")
    images = (photos / "test/red/100.png", tmp_path / "noise.png")
    outcome = run("predict", fitted.bundle, *images, "--false-reject", "10%", "--sets", "0.9")
    assert (outcome.code, outcome.err) == (0, "")
    known, strange = (line.split("\t") for line in outcome.out.splitlines())
    assert known[1] == "red" and float(known[2]) > 0.3 and known[3].startswith("one of: red")
    assert strange[1:3] == ["none of these", "–"]
    assert strange[3].startswith("nearest: ") and strange[4].startswith("one of: ")
    found = run("predict", fitted.bundle, *images, "--false-reject", 0.1, "--json").json
    assert (found["false_reject"], found["sets"]) == (0.1, None)
    assert [row["rejected"] for row in found["rows"]] == [False, True]
    assert found["rows"][1]["label"] == "none of these"
    assert found["rows"][1]["nearest_class"] == found["rows"][1]["top"][0]["label"]


def test_predict_of_an_empty_folder_is_status_1(run: Run, fitted: FitResult, tmp_path: Path) -> None:
    outcome = run("predict", fitted.bundle, tmp_path)
    assert outcome.code == 1
    assert outcome.err != "", "a script that finds status 1 finds a reason as well"


def test_predict_names_of_any_script(run: Run, fitted: FitResult, tmp_path: Path) -> None:
    path = tmp_path / "été 蜂 🐝.png"
    photo("red", 1).save(path)
    assert run("predict", fitted.bundle, path).out.startswith(f"{path}\tred\t")
    assert run("predict", fitted.bundle, path, "--json").json["rows"][0]["path"] == str(path)


def test_evaluate_shows_accuracy_with_its_interval(run: Run, fitted: FitResult, photos: Path) -> None:
    outcome = run("evaluate", fitted.bundle, photos)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("accuracy 100.0 %, 95 % interval 75.8 % to 100.0 % (test split, 12 images")


def test_evaluate_json_and_split(run: Run, fitted: FitResult, photos: Path) -> None:
    outcome = run("evaluate", fitted.bundle, photos, "--split", "train", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert (outcome.json["schema"], outcome.json["images"]) == ("convatlas.evaluate/1", 24)


def test_evaluate_measures_what_was_promised(run: Run, fitted: FitResult, photos: Path) -> None:
    words = ("evaluate", fitted.bundle, photos, "--false-reject", "10%", "--sets", "90%")
    found = run(*words, "--json").json
    assert found["none_of_these"]["stated"] == 0.1
    assert found["sets"]["stated"] == 0.9
    text = run(*words).out
    assert "of 12 images of known classes, 95 % interval" in text and "stated 10.0 %" in text
    assert "sets: hold the true class for" in text and "stated 90.0 %" in text


def test_evaluate_says_on_stderr_what_it_left_out(run: Run, fitted: FitResult, tmp_path: Path) -> None:
    root = write_split(tmp_path / "photos", {"test": 2})
    (root / "test/red/zero.png").write_bytes(b"")
    outcome = run("evaluate", fitted.bundle, root)
    assert outcome.code == 0
    assert f"not counted, unreadable: {root / 'test/red/zero.png'}" in outcome.err
    assert "6 images" in outcome.out


def test_evaluate_of_an_unknown_class_is_status_1_and_names_it(run: Run, fitted: FitResult, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 0, 2)
    shutil.copytree(tmp_path / "photos/red", tmp_path / "photos/purple")
    (tmp_path / "photos/purple/000.png").rename(tmp_path / "photos/purple/own.png")
    outcome = run("evaluate", fitted.bundle, tmp_path / "photos")
    assert (outcome.code, outcome.out) == (1, "")
    assert "purple" in outcome.err


def test_pack_says_what_to_do_next(run: Run, backbone: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join("abcdefghij"))
    words = ("pack", "resnet20_cifar", "--weights", backbone, "--classes", tmp_path / "names.txt", "--out")
    outcome = run(*words, tmp_path / "model")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"convatlas predict {tmp_path / 'model'} photo.jpg" in outcome.out
    outcome = run(*words, tmp_path / "model", "--json")
    assert outcome.json == {"schema": "convatlas.pack/1", "bundle": str(tmp_path / "model")}
    assert convatlas.load(tmp_path / "model").classes == tuple("abcdefghij")


def test_the_cache_is_shown_and_emptied(run: Run, photos: Path, backbone: Path, tmp_path: Path) -> None:
    assert run("cache", "show").out == f"{cache.cache_folder()}: 0.0 MB\n"
    run("fit", photos, "--weights", backbone, "--out", tmp_path / "m", "--no-report")
    shown = run("cache", "show")
    assert (shown.code, shown.err) == (0, "")
    assert "resnet20_cifar" in shown.out and "image checks" in shown.out
    files = run("cache", "show", "--json").json["files"]
    assert {file["entries"] for file in files} == {1, 36, 37}
    assert sum(file["bytes"] for file in files) == sum(f.stat().st_size for f in cache.cache_folder().iterdir())
    kept = run("cache", "prune", "--json")
    assert kept.json["removed"] == []
    emptied = run("cache", "prune", "--limit", "0", "--json")
    assert sorted(emptied.json["removed"]) == sorted(file["path"] for file in files)
    assert run("cache", "prune", "--limit", "0").out == "removed 0 files, 0.0 MB\n"
    assert not list(cache.cache_folder().iterdir())


def test_a_cache_that_cannot_be_used_is_said_on_stderr_and_the_result_comes(
    run: Run, photos: Path, backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="the run goes on without it"):
        outcome = run("fit", photos, "--weights", backbone, "--out", tmp_path / "m", "--no-report", "--json")
    assert outcome.code == 0
    assert outcome.json["accuracy"] == 1.0


def test_an_interrupt_is_status_130_and_says_so(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("convatlas.jobs.fit.fit", interrupt)
    outcome = run("fit", photos)
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err.startswith("convatlas: interrupted; nothing was left half-written")
    assert outcome.err.endswith(", and what was computed is cached: repeat the command to go on\n")


def test_a_defect_of_the_program_is_not_dressed_up(run: Run, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convatlas.jobs.fit.fit", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("fit", photos)


def test_no_file_appears_where_the_command_ran(
    run: Run, photos: Path, fitted: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = state(photos), state(fitted.bundle)
    for words in (
        ("list",),
        ("check", photos),
        ("predict", fitted.bundle, photos / "test"),
        ("evaluate", fitted.bundle, photos),
    ):
        assert run(*words).code == 0
    assert not list(tmp_path.iterdir())
    assert (state(photos), state(fitted.bundle)) == before
