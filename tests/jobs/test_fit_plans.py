"""Plans of a fit: what is named is done, what is handed out is what was judged, and a search stays on the training images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import convatlas
from convatlas.cli.fit import fit_text
from convatlas.data.framing import FitMode
from convatlas.errors import ConvAtlasError
from convatlas.jobs.control import control_in_words
from convatlas.jobs.fit import fit
from convatlas.transfer import finetune
from convatlas.transfer.frozen import Norms
from tiny import CLASSES, write_photos, write_weights


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs suffice here."""
    monkeypatch.setattr(finetune, "STEPS", 4)
    monkeypatch.setattr(finetune, "LEAST_EPOCHS", 2)
    monkeypatch.setattr(finetune, "SCRATCH", 1)


def predicted(folder: Path, photos: Path) -> list[str | None]:
    files = sorted(photos.glob("test/*/*.png"))
    return [row.label for row in convatlas.load(folder).predict(files)]


@pytest.mark.parametrize(
    ("plan", "mode"),
    [
        *((plan, "auto") for plan in ("probe:stage2", "probe:stage1+stage3", "probe:all")),
        *((plan, "auto") for plan in ("tune:stage3", "tune:stage2.1", "scratch")),
        *((plan, "multicrop") for plan in ("probe:all", "tune:stage3", "tune:all", "scratch")),
    ],
)
def test_what_is_named_is_done_and_the_model_says_what_was_judged(
    photos: Path, backbone: Path, tmp_path: Path, plan: str, mode: FitMode
) -> None:
    how: dict[str, Any] = {"plan": plan, "resize_mode": mode, "class_weights": "balanced", "report": False}
    result = fit(photos, weights=backbone, out=tmp_path / "model", **how)
    assert result.json["shapes"]["crops"] == (3 if mode == "multicrop" else 1)
    matrix = np.array(result.json["confusion"]["matrix"])
    said, classes = predicted(result.bundle, photos), result.json["confusion"]["classes"]
    assert [said.count(name) for name in classes] == matrix.sum(axis=0).tolist()
    trains = not plan.startswith("probe")
    assert (result.json["training"] is not None) == trains
    assert result.plan == plan
    assert (result.stage is None) == trains
    assert result.json["headline"] == "test"


@pytest.mark.parametrize("network", ["lenet5", "lenet5_modern"])
def test_the_last_hidden_layer_may_be_probed_whatever_the_network_s_own_classifier(
    photos: Path, tmp_path: Path, network: str
) -> None:
    """LeNet-5's own is no linear layer but distances to codes."""
    grey = {"size": 32, "resize": 32, "channels": 1, "mean": [0.5], "std": [0.5]}
    weights = write_weights(tmp_path / f"{network}.safetensors", name=network, card={"preprocessing": grey})
    result = fit(photos, weights=weights, out=tmp_path / "model", plan="probe:head.f6", report=False)
    said, classes = predicted(result.bundle, photos), result.json["confusion"]["classes"]
    assert [said.count(name) for name in classes] == np.sum(result.json["confusion"]["matrix"], axis=0).tolist()


def test_tuning_is_in_the_report_and_in_words(photos: Path, backbone: Path, tmp_path: Path) -> None:
    result = fit(photos, weights=backbone, out=tmp_path / "model", plan="tune:stage3")
    assert "fine-tuned from stage3 on, names the right class" in result.json["answer"]
    assert result.json["training"]["audited"] > 50
    assert result.json["seconds"]["adapt"] > 0
    assert result.report is not None
    page = result.report.read_text()
    assert "How deep to train" in page
    assert "fine-tuning from stage3 on" in page


@pytest.mark.parametrize("bn", ["frozen", "stats", "train"])
def test_batch_norms_do_what_was_chosen(photos: Path, backbone: Path, tmp_path: Path, bn: Norms) -> None:
    result = fit(photos, weights=backbone, out=tmp_path / "model", plan="tune:stage3", bn=bn, report=False)
    assert result.json["training"]["norms"] == bn
    before, after = load_file(backbone), load_file(result.bundle / "model.safetensors")
    own = [key for key in before if key.endswith("running_mean") and key in after]
    moved = {key for key in own if not torch.equal(before[key], after[key])}
    assert own
    assert bool(moved) == (bn != "frozen")
    assert all("stage3" in key for key in moved)


@pytest.mark.parametrize("bn", ["frozen", "train"])
def test_without_any_time_it_is_told_what_plans_would_take(
    photos: Path, backbone: Path, tmp_path: Path, bn: Norms
) -> None:
    result = fit(photos, weights=backbone, out=tmp_path / "model", budget="0", bn=bn, report=False)
    plans = result.json["advice"]["plans"]
    assert result.plan == plans[0]["plan"] and plans[0]["accuracy"] is not None
    assert len(plans) == 5
    for row in plans[1:]:
        assert row["accuracy"] is None and row["took"] == 0 and row["note"]
        assert row["seconds"] > 0 and row["memory"] > 0
    held = {row["plan"]: row["memory"] for row in plans}
    assert held["tune:stage2"] < held["tune:all"]
    assert (held["tune:all"] < 0.8 * held["scratch"]) == (bn == "frozen"), "frozen norms keep no maps"
    assert "0 s" not in fit_text(result.json).splitlines()[0]


def test_a_search_weighs_every_plan_and_hands_out_its_choice(photos: Path, backbone: Path, tmp_path: Path) -> None:
    result = fit(photos, weights=backbone, out=tmp_path / "model", budget="5m", report=False)
    advice = result.json["advice"]
    plans = {row["plan"]: row for row in advice["plans"]}
    assert [plan.split(":")[0] for plan in plans] == ["probe", "tune", "tune", "tune", "scratch"]
    assert [row["plan"] for row in plans.values() if row["chosen"]] == [advice["chosen"]]
    assert result.plan == advice["chosen"]
    for row in plans.values():
        assert (row["accuracy"] is None) == row["note"].startswith("not tried")
        assert row["seconds"] >= 0
    assert advice["budget"] == 300.0
    assert (result.json["training"] is None) == result.plan.startswith("probe")


def test_without_a_budget_nothing_is_trained(photos: Path, backbone: Path, tmp_path: Path) -> None:
    result = fit(photos, weights=backbone, out=tmp_path / "model", report=False)
    assert result.json["advice"] is None
    assert result.json["training"] is None
    assert result.plan.startswith("probe:")


@pytest.mark.parametrize("each", [(2, 2, 2), (1, 2, 3)])
def test_too_few_images_to_train_are_probed_and_it_is_said(backbone: Path, tmp_path: Path, each: tuple[int]) -> None:
    for label, count in zip(CLASSES, each, strict=True):
        write_photos(tmp_path / "photos", 0, count, (label,))
    result = fit(tmp_path / "photos", weights=backbone, out=tmp_path / "model", budget="5m")
    assert result.json["advice"] is None and result.plan.startswith("probe:")
    assert "too few to judge plans that train" in result.json["untried"]
    assert result.report is not None
    for text in (" ".join(fit_text(result.json).split()), result.report.read_text()):
        assert result.json["untried"] in text
    with pytest.raises(ConvAtlasError, match="too few to judge.*Give at least three images of every class"):
        fit(tmp_path / "photos", weights=backbone, out=tmp_path / "other", plan="tune:stage3")
    anew = fit(tmp_path / "photos", weights=backbone, out=tmp_path / "anew", plan="scratch", report=False)
    assert anew.plan == "scratch", "its head begins as nothing"


@pytest.mark.parametrize("plan", ["tune:stage3", "tune:all", "scratch"])
def test_three_images_a_class_suffice_to_train(backbone: Path, tmp_path: Path, plan: str) -> None:
    write_photos(tmp_path / "photos", 0, 3)
    result = fit(tmp_path / "photos", weights=backbone, out=tmp_path / "model", plan=plan, report=False)
    assert result.plan == plan and result.json["untried"] == ""


def test_what_a_figure_was_measured_on_stands_beside_it(backbone: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 0, 4)
    found = fit(tmp_path / "photos", weights=backbone, out=tmp_path / "model", report=False).json
    assert "dealt 5 times and averaged" in found["protocol"]
    assert found["protocol"] in " ".join(fit_text(found).split())


def test_no_time_is_no_trial(photos: Path, backbone: Path, tmp_path: Path) -> None:
    result = fit(photos, weights=backbone, out=tmp_path / "model", budget="0.001s", report=False)
    assert result.json["advice"]["spent"] == 0
    assert result.plan.startswith("probe:")


def test_without_a_test_part_every_image_is_judged_by_a_network_that_had_not_seen_it(
    backbone: Path, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 0, 8)
    result = fit(tmp_path / "photos", weights=backbone, out=tmp_path / "model", plan="tune:stage3", report=False)
    assert result.json["headline"] == "outer folds"
    assert sum(map(sum, result.json["confusion"]["matrix"])) == 24
    assert "each judged by a network trained on the others" in result.json["protocol"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"plan": "tune:stage9"}, "no stage 'stage9'"),
        ({"plan": "tune:stage3.99"}, r"no stage or block 'stage3.99'.*It has stage3\.0"),
        ({"plan": "probe:"}, "unknown plan 'probe:'"),
        ({"plan": "probe:stage2+stage2"}, "names stage2 twice"),
        ({"plan": "everything"}, "unknown plan 'everything'"),
        ({"budget": "soon"}, "'soon' is not a time"),
        ({"plan": "tune:stage3", "budget": "5m"}, "a budget of 5m is for plan auto"),
        ({"budget": -5.0}, r"a budget of -5\.0 seconds.*Give 0 or more"),
        ({"budget": math.nan}, "a budget of nan seconds"),
        ({"plan": "tune:stage3", "maps": "uint8"}, "maps is 'uint8'.*'float32' or 'float16'"),
        ({"plan": "tune:stage3", "bn": "forzen"}, "bn is 'forzen'.*'frozen', 'stats' or 'train'"),
        ({"class_weights": "none"}, "class_weights is 'none'.*None or 'balanced'"),
        ({"seed": -1}, "a seed of -1.*Give 0 or more"),
    ],
)
def test_what_there_is_not_is_named(
    photos: Path, backbone: Path, tmp_path: Path, arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConvAtlasError, match=told):
        fit(photos, weights=backbone, out=tmp_path / "model", **arguments, report=False)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("plan", ["tune:stage2", "tune:stage2.1", "tune:all", "scratch"])
def test_a_network_that_was_trained_remembers_its_images(
    photos: Path, backbone: Path, tmp_path: Path, plan: str
) -> None:
    classifier = convatlas.load(fit(photos, weights=backbone, out=tmp_path / "model", plan=plan, report=False).bundle)
    files = sorted((photos / "train").rglob("*.png"))
    assert classifier.training is not None and len(classifier.training.paths) == len(files)
    for file in files[::5]:
        found = classifier.explain(file).nearest
        assert found is not None
        nearest = found[0]
        assert nearest.path == file.relative_to(photos).as_posix()
        assert nearest.cosine == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize("mode", ["crop", "multicrop"])
@pytest.mark.parametrize("plan", ["tune:stage3", "tune:all"])
def test_a_tuning_may_see_random_views(photos: Path, backbone: Path, tmp_path: Path, plan: str, mode: FitMode) -> None:
    how: dict[str, Any] = {"plan": plan, "resize_mode": mode, "report": False}
    plain, varied, again = (
        fit(photos, weights=backbone, out=tmp_path / f"{i}", augment=augment, **how).json
        for i, augment in enumerate((0, 3, 3))
    )
    assert [result["training"]["views"] for result in (plain, varied)] == [1, 3 if plan == "tune:stage3" else 1]
    assert varied["training"]["losses"] == again["training"]["losses"] != plain["training"]["losses"]
    assert varied["log_loss"] == again["log_loss"], "test images are shown as they are"


@pytest.mark.parametrize("plan", ["tune:stage3", "tune:all"])
def test_maps_may_be_kept_in_half(photos: Path, backbone: Path, tmp_path: Path, plan: str) -> None:
    exact, half = (
        fit(photos, weights=backbone, out=tmp_path / maps, plan=plan, maps=maps, report=False)
        for maps in ("float32", "float16")
    )
    frozen = plan == "tune:stage3"  # nothing else has maps
    told = [found.json["training"]["maps"] for found in (exact, half)]
    assert told == ["float32", "float16" if frozen else "float32"]
    assert (exact.json["training"]["losses"] != half.json["training"]["losses"]) == frozen
    matrix, classes = np.array(half.json["confusion"]["matrix"]), half.json["confusion"]["classes"]
    said = predicted(half.bundle, photos)
    assert [said.count(name) for name in classes] == matrix.sum(axis=0).tolist()


@pytest.mark.parametrize(
    ("plan", "settings", "words"),
    [
        ("probe", {"augment": 4, "bn": "train"}, "bn, augment: of no effect, since nothing is fine-tuned. Give a plan"),
        ("auto", {"maps": "float16"}, "maps: of no effect, since nothing is fine-tuned"),
        ("scratch", {"bn": "stats"}, "bn: of no effect on the plan scratch"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(
    photos: Path, backbone: Path, tmp_path: Path, plan: str, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConvAtlasError, match=words):
        fit(photos, weights=backbone, out=tmp_path / "model", plan=plan, **settings)


@pytest.mark.parametrize("augment", [1, -2])
def test_one_random_view_is_none(photos: Path, backbone: Path, tmp_path: Path, augment: int) -> None:
    with pytest.raises(ConvAtlasError, match="random views of each image"):
        fit(photos, weights=backbone, out=tmp_path / "model", plan="tune:stage3", augment=augment)


@pytest.mark.parametrize("split", [True, False])
def test_a_control_tells_what_transfer_bought(photos: Path, backbone: Path, tmp_path: Path, split: bool) -> None:
    data = photos if split else photos / "train"
    result = fit(data, weights=backbone, out=tmp_path / "model", control=True).json
    control = result["control"]
    images = sum(row["test"] for row in result["classes"])
    assert control["images"] == images
    assert control["difference"] == pytest.approx(result["accuracy"] - control["accuracy"])
    low, high = control["difference_interval"]
    assert low <= control["difference"] <= high
    assert result["plan"].startswith("probe"), "the control is not handed out"
    assert "What transfer bought" in (tmp_path / "model/report.html").read_text(encoding="utf-8")
    assert " ".join(control["words"].split()) in " ".join(fit_text(result).split())
    assert f"({100 * control['difference']:+.1f} percentage points" in control["words"] or low > 0 or high < 0
    alone = fit(data, weights=backbone, out=tmp_path / "alone", plan="scratch", report=False).json
    assert alone["accuracy"] == control["accuracy"], "it is what the plan scratch gives"


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ([0.02, 0.2], "with pretrained weights is better by +11.0 percentage points (95 % interval +2.0 to +20.0"),
        ([-0.2, -0.02], "with pretrained weights is worse, by"),
        ([-0.02, 0.2], "No difference to the classifier with pretrained weights is shown"),
    ],
)
def test_only_what_is_shown_is_said_to_be_bought(interval: list[float], words: str) -> None:
    control = {"accuracy": 0.8, "images": 20, "epochs": 5, "seconds": 3.0}
    assert words in control_in_words({**control, "difference": sum(interval) / 2, "difference_interval": interval})


def test_from_scratch_is_its_own_control(photos: Path, backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(ConvAtlasError, match="its own control"):
        fit(photos, weights=backbone, out=tmp_path / "model", plan="scratch", control=True)
