"""Fine-tuning from a cut: the cache changes nothing, what is frozen stays so, and the settings do what they say."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from convatlas import zoo
from convatlas.errors import ConvAtlasError
from convatlas.train.augment import standardised
from convatlas.train.config import Augment, Optim, TrainConfig
from convatlas.train.images import InMemory
from convatlas.train.loop import train
from convatlas.train.optim import optimiser
from convatlas.transfer.finetune import Finetune, Tuning, begin_as_probe, tuning
from convatlas.transfer.frozen import Audit, Norms, cut_before, parted
from convatlas.transfer.maps import Maps, Squares
from convatlas.transfer.plans import Plan
from convatlas.transfer.probe import fit_probe
from convatlas.zoo.heads.probe import pooled

CLASSES = 3
# A network of each kind of block, its smallest variant, with a cut between stages or inside one, and the images' side.
CUTS = (
    ("mobilenet_v1_025", "stage5", 64),
    ("mobilenet_v1_025", "stage5.1", 64),
    ("resnet18", "stage4", 64),
    ("resnet20_cifar", "stage2", 32),
    ("preresnet110_cifar", "stage3.17", 32),
    ("densenet_bc_100_12_cifar", "stage3.12", 32),
    ("googlenet_bn", "stage5", 64),
    ("mobilenet_v2", "stage5", 64),
    ("se_resnet50", "stage4", 64),
    ("fractalnet20_cifar", "stage4", 32),
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path / "cache"))


def some_images(size: int, count: int = 20, crops: int = 1) -> InMemory:
    drawn = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, 3, crops * size, size), dtype=torch.uint8, generator=drawn)
    return InMemory(pixels, torch.arange(count) % CLASSES)


def network(name: str) -> zoo.ConvNet:
    """With norms that are no identity, so that folding them or training them makes a difference."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = zoo.build(name, num_classes=CLASSES)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean = torch.randn_like(module.weight) / 10
                module.running_var = torch.rand_like(module.weight) / 2 + 0.5
    return model.eval()


def settings(cut: str, size: int, norms: Norms = "train", views: int = 1, crops: int = 1) -> Tuning:
    config = TrainConfig(epochs=2, batch_size=8, image_size=size, optim=Optim(lr=0.01, stage_decay=0.7))
    return Tuning(plan=Plan(kind="tune", at=(cut,)), config=config, norms=norms, views=views, crops=crops)


def copied(model: zoo.ConvNet) -> dict[str, Tensor]:
    return {key: x.clone() for key, x in model.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "cut", "size", "crops"), [*((*each, 1) for each in CUTS), *((*each, 3) for each in CUTS[::3])]
)
def test_training_on_cached_maps_is_training_bit_for_bit(name: str, cut: str, size: int, crops: int) -> None:
    images, found = some_images(size, crops=crops), []
    for cached in (False, True):
        model = network(name)
        before = copied(model)
        fine = Finetune(model, settings(cut, size, crops=crops), key=name)
        shown = fine.shown(images, training=True) if cached else images
        assert isinstance(shown, Maps) == cached
        history = fine.train(shown)
        found.append(([epoch.loss for epoch in history], model.state_dict(), fine.seen(shown).logits))
        frozen = parted(model, cut).frozen.state_dict()
        assert all(torch.equal(frozen[key], parted_before) for key, parted_before in _under(before, frozen).items())
    (losses, weights, logits), (again, same, too) = found
    assert losses == again
    assert all(torch.equal(weights[key], same[key]) for key in weights)
    assert (
        np.array_equal(logits, too) if crops == 1 else np.allclose(logits, too, rtol=1e-5)
    )  # last batches are of other sizes
    assert losses[0] != losses[1]


def _under(whole: dict[str, Tensor], part: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a frozen part, by its own names, as they stood in the whole network's state."""
    return {key: whole[f"stages.{key}"] for key in part}


@pytest.mark.parametrize("norms", ["frozen", "stats", "train"])
def test_norms_of_the_part_that_trains_do_what_was_chosen(norms: Norms) -> None:
    model = network("resnet20_cifar")
    before = copied(model)
    fine = Finetune(model, settings("stage3", 32, norms), key="")
    fine.train(fine.shown(some_images(32), training=True))
    changed = {key for key, x in model.state_dict().items() if not torch.equal(x, before[key])}
    assert all(key.startswith(("stages.stage3", "head")) for key in changed)
    statistics = {key for key in changed if "running" in key}
    affine = {key for key in changed if key.startswith("stages.stage3") and before[key].ndim == 1} - statistics
    assert bool(statistics) == (norms != "frozen")
    assert bool(affine) == (norms == "train")
    assert "head.fc.weight" in changed


def test_one_image_at_once_is_enough_for_frozen_norms() -> None:
    images, config = some_images(32, count=3), settings("stage3", 32).config
    for norms in ("frozen", "stats"):
        model = parted(network("resnet20_cifar"), "stage3", norms)
        with pytest.raises(ConvAtlasError, match="needs at least 2") if norms == "stats" else nullcontext():
            assert len(train(model, images, replace(config, batch_size=3, micro_batch=1))) == 2


def test_a_loop_that_calls_train_does_not_thaw_what_is_frozen() -> None:
    whole = parted(network("resnet20_cifar"), "stage3", "frozen")
    audit = Audit(whole.frozen)
    whole.train()
    whole(torch.randn(4, 3, 32, 32))
    audit.check()
    assert audit.tensors > 50
    assert not any(module.training for module in whole.frozen.modules())
    assert not any(p.requires_grad for p in whole.frozen.parameters())


def test_the_audit_sees_a_single_bit() -> None:
    module = torch.nn.Linear(3, 2)
    with torch.no_grad():
        module.bias[0] = 0.0
    audit = Audit(module)
    with torch.no_grad():
        module.bias[0] = -0.0
    with pytest.raises(RuntimeError, match="bias is frozen and has changed"):
        audit.check()


def test_a_buffer_that_changes_while_the_rest_trains_ends_the_run() -> None:
    fine = Finetune(network("resnet20_cifar"), settings("stage3", 32), key="")
    next(iter(fine.frozen.buffers())).add_(1)
    with pytest.raises(RuntimeError, match="is frozen and has changed"):
        fine.train(fine.shown(some_images(32), training=True))


@pytest.mark.parametrize(
    ("cut", "before"),
    [("stem", None), ("stage1", "stem"), ("stage3", "stage2"), ("stage3.1", "stage3.0"), ("stage3.0", "stage2")],
)
def test_where_a_cut_begins(cut: str, before: str | None) -> None:
    assert cut_before(network("resnet20_cifar"), cut) == before


def test_a_cut_that_is_not_there_is_named() -> None:
    with pytest.raises(ConvAtlasError, match=r"'stage9'.*has stage1, stage2, stage3\.$"):
        parted(network("resnet20_cifar"), "stage9")
    with pytest.raises(ConvAtlasError, match=r"'stage2.7'.*has stage2\.0, stage2\.1, stage2\.2\.$"):
        parted(network("resnet20_cifar"), "stage2.7")


@pytest.mark.parametrize(
    "name", ["mobilenet_v1_025", "resnet20_cifar", "lenet5_modern", "densenet_bc_100_12_cifar", "mobilenet_v3_small"]
)
def test_the_head_begins_as_the_probe(name: str) -> None:
    model, size = network(name), zoo.native(name)[0][1]
    images = torch.randn(9, 3, size, size)
    last = [*zoo.stage_names(model), *zoo.hidden_names(model)][-1]
    with torch.inference_mode():
        features = pooled(zoo.taps(model, [last])(images)[last])[0].numpy()
    probe = fit_probe(features, np.arange(9) % CLASSES, CLASSES)
    assert begin_as_probe(model, probe)
    with torch.inference_mode():
        found = model(images).numpy()
    assert np.abs(found - probe.scale * probe.scores(features)).max() < 1e-3 * np.abs(found).max()


@pytest.mark.parametrize("name", ["resnet20_cifar", "lenet5"])  # of another width; no fully connected layer
def test_a_head_that_cannot_be_the_probe_is_left_alone(name: str) -> None:
    model = network(name)
    before = copied(model)
    probe = fit_probe(np.random.default_rng(0).normal(size=(9, 5)), np.arange(9) % CLASSES, CLASSES)
    assert not begin_as_probe(model, probe)
    assert all(torch.equal(x, before[key]) for key, x in model.state_dict().items())


def test_earlier_stages_learn_more_slowly() -> None:
    model = parted(network("resnet20_cifar"), None)
    names = {p: name for name, p in model.named_parameters()}
    scales = {
        names[p].split(".")[2 if "stages" in names[p] else 1]: group["scale"]
        for group in optimiser(model, Optim(stage_decay=0.5)).param_groups
        for p in group["params"]
    }
    assert scales == {"head": 1.0, "stage3": 0.5, "stage2": 0.25, "stage1": 0.125, "stem": 0.0625}


def test_rates_by_stage_need_stages() -> None:
    with pytest.raises(ValueError, match="stages and a head"):
        optimiser(torch.nn.Linear(2, 2), Optim(stage_decay=0.5))


def test_views_are_drawn_once_and_then_differ_from_step_to_step() -> None:
    images = some_images(32, count=8)
    plain = settings("stage3", 32, views=3)
    augmented = replace(plain, config=replace(plain.config, augment=Augment(scale=(0.3, 1.0), flip=0.5)))
    fine = Finetune(network("resnet20_cifar"), augmented, key="")
    maps = fine.shown(images, training=True)
    assert isinstance(maps, Maps)
    assert len(maps) == 8
    assert maps.rows.shape[0] == 24
    wanted = [(torch.arange(8), seed) for seed in (1, 1, 2)]
    first, again, other = maps.batches(wanted)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    whole = fine.shown(images, training=False)
    assert isinstance(whole, Maps)
    assert whole.rows.shape[0] == 8


@pytest.mark.parametrize("cut", ["stage1", "stage3"])
def test_what_is_said_of_several_squares_is_the_mean(cut: str) -> None:
    images, alone = some_images(32, count=6, crops=2), some_images(32, count=6, crops=2).images.unflatten(2, (2, 32))
    fine = Finetune(network("resnet20_cifar"), settings(cut, 32, norms="frozen", crops=2), key="")
    fine.train(fine.shown(images, training=True))
    of_all, of_maps = fine.seen(images), fine.seen(fine.shown(images, training=False))
    single = replace(fine.tuning, crops=1)
    each = [
        Finetune(fine.model, single, key="").seen(InMemory(alone[:, :, i].contiguous(), images.labels)) for i in (0, 1)
    ]
    assert not np.allclose(each[0].logits, each[1].logits, atol=1e-2)
    for name in ("logits", "maps", "read"):
        mean = sum(getattr(one, name) for one in each) / 2
        for found in (of_all, of_maps):
            assert np.allclose(getattr(found, name), mean, rtol=1e-5, atol=1e-5 * np.abs(mean).max())


@pytest.mark.parametrize("cut", ["stage1", "stage3"])
def test_every_square_is_changed_by_itself(cut: str) -> None:
    """Two equal squares differ after a random crop, and are equal without one."""
    images = some_images(32, count=8)
    twice = InMemory(torch.cat([images.images, images.images], dim=2), images.labels)
    plain = settings(cut, 32, crops=2)
    for augment in (Augment(), Augment(scale=(0.3, 1.0), flip=0.5)):
        changed = replace(plain, views=1 if augment == Augment() else 2, config=replace(plain.config, augment=augment))
        fine = Finetune(network("resnet20_cifar"), changed, key="")
        shown = fine.shown(twice, training=True) if cut != "stage1" else Squares(twice, changed.config)
        assert shown.prepared
        first, again, other = shown.batches([(torch.arange(8), seed) for seed in (1, 1, 2)])
        one, two = first.chunk(2, dim=2)
        assert torch.equal(one, two) == (augment == Augment())
        assert torch.equal(first, again) and torch.equal(first, other) == (augment == Augment())
        assert all(np.isfinite(epoch.loss) for epoch in fine.train(twice if cut == "stage1" else shown))


def test_maps_are_made_once_and_again_where_anything_differs() -> None:
    images, tuned, made = some_images(32), settings("stage3", 32), list[int]()

    def told(done: int, total: int) -> None:
        made.append(done)

    for key, of, expected in (
        ("a", images, True),
        ("a", images, False),
        ("b", images, True),
        ("a", some_images(32, 16), True),
    ):
        made.clear()
        Finetune(network("resnet20_cifar"), tuned, key=key, progress=told).shown(of, training=True)
        assert bool(made) == expected


def test_maps_in_half_take_half_and_what_is_judged_is_exact() -> None:
    images, sizes, losses, logits = some_images(32), list[int](), list[list[float]](), list[np.ndarray]()
    for maps in ("float32", "float16"):
        plain = settings("stage3", 32, "frozen")
        gently = replace(plain.config, optim=replace(plain.config.optim, lr=1e-4))
        tuned = replace(plain, maps=maps, config=gently)
        fine = Finetune(network("resnet20_cifar"), tuned, key="")
        shown = fine.shown(images, training=True)
        assert isinstance(shown, Maps) and shown.rows.dtype == maps
        sizes.append(shown.rows.nbytes)
        losses.append([epoch.loss for epoch in fine.train(shown)])
        judged = fine.shown(images, training=False)
        assert (judged is images) == (maps == "float16")
        logits.append(fine.seen(judged).logits)
        with torch.inference_mode():
            x = standardised(images.images.float() / 255, fine.tuning.config)
            expected = fine.model(x.contiguous(memory_format=torch.channels_last)).double().numpy()
        assert np.abs(logits[-1] - expected).max() < 1e-4 * np.abs(expected).max(), "the network as it is used"
    assert sizes[0] == 2 * sizes[1]
    assert losses[0] != losses[1]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=0.01)  # later ones drift apart: nothing here was pretrained


def test_maps_beyond_float16_are_kept_in_float32() -> None:
    told, shown, losses = list[str](), [], []
    for maps in ("float32", "float16"):
        model = network("resnet20_cifar")
        norm = [module for module in model.get_submodule("stages.stage2").modules() if hasattr(module, "running_var")][
            -1
        ]
        with torch.no_grad():
            assert isinstance(norm.bias, Tensor)
            norm.bias += 70_000.0
        fine = Finetune(model, replace(settings("stage3", 32), maps=maps), key="", say=told.append)
        shown.append(fine.shown(some_images(32), training=True))
        losses.append([epoch.loss for epoch in fine.train(shown[-1])])
    assert all(isinstance(each, Maps) and each.rows.dtype == "float32" for each in shown)
    assert losses[0] == losses[1]
    assert len(told) == 1 and "are kept in float32: the maps reach 7" in told[0] and "ends at 65,504" in told[0]


@pytest.mark.parametrize("name", ["nasnet_a_cifar", "resnet20_cifar"])  # two maps a block; no room
def test_what_cannot_be_kept_is_run_anew(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "resnet20_cifar":
        monkeypatch.setenv("CONVATLAS_CACHE_LIMIT", "1K")
    model, images, told = network(name), some_images(32), list[str]()
    cut = zoo.stage_names(model)[-1]
    fine = Finetune(model, settings(cut, 32), key="", say=told.append)
    shown = fine.shown(images, training=True)
    assert shown is images
    assert "run anew in every step" in told[0]
    losses = [epoch.loss for epoch in fine.train(shown)]
    assert np.isfinite(losses).all()
    assert losses[0] != losses[1]
    with torch.inference_mode():
        x = standardised(images.images.float() / 255, fine.tuning.config)
        expected = model.eval()(x).double().numpy()
    assert np.abs(fine.seen(images).logits - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("count", [8, 50, 244, 3000, 50_000])
@pytest.mark.parametrize("text", ["tune:stage5", "tune:all", "scratch"])
def test_settings_suit_the_number_of_images(count: int, text: str) -> None:
    kind, _, at = text.partition(":")
    plan = Plan(kind="scratch") if kind == "scratch" else Plan(kind="tune", at=(at,))
    found = tuning(plan, count, 224, (0.5,) * 3, (0.5,) * 3)
    assert 2 <= found.config.batch_size <= count
    assert (found.cut is None) == (text != "tune:stage5")
    fewer = tuning(plan, max(8, count // 2), 224, (0.5,) * 3, (0.5,) * 3)
    assert fewer.config.epochs >= found.config.epochs
