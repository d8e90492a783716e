"""The loop learns, repeats itself by its seed, and stops where there is nothing to learn from."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convatlas.errors import ConvAtlasError
from convatlas.train import Augment, Epoch, InMemory, Optim, TrainConfig, accuracy, train
from convatlas.train.losses import Objective
from convatlas.train.optim import learning_rate, optimiser
from convatlas.train.order import Order, balanced

CONFIG = TrainConfig(
    epochs=4,
    batch_size=16,
    image_size=20,
    optim=Optim(lr=0.1, warmup_epochs=1),
    augment=Augment(scale=(0.7, 1.0), flip=0.5, colour=0.2, mixup=0.2, cutmix=0.2, erase=0.2),
)


def small_net(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(3, 8, 3, stride=2, bias=False),
                norm=nn.BatchNorm2d(8),
                relu=nn.ReLU(),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                drop=nn.Dropout(0.1),
                fc=nn.Linear(8, 2),
            )
        )


def stripes(n: int, seed: int) -> InMemory:
    """Noise with bright horizontal (0) or vertical (1) stripes."""
    labels = torch.arange(n) % 2
    images = torch.randint(0, 100, (n, 3, 16, 16), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    images[labels == 0, :, ::4] = 255
    images[labels == 1, :, :, ::4] = 255
    return InMemory(images, labels)


def trained(config: TrainConfig) -> dict[str, Tensor]:
    model = small_net()
    train(model, stripes(40, seed=1), config)
    return model.state_dict()


@pytest.mark.parametrize("optim", [Optim(lr=0.2, warmup_epochs=1), Optim(name="adamw", lr=0.02, warmup_epochs=1)])
def test_learns_stripes(optim: Optim) -> None:
    model, held_out = small_net(), stripes(100, seed=2)
    steps: list[tuple[int, int]] = []
    logged: list[Epoch] = []
    config = replace(CONFIG, epochs=12, optim=optim, augment=Augment(scale=(0.7, 1.0), flip=0.5, colour=0.2))
    history = train(
        model,
        stripes(100, seed=1),
        config,
        held_out=held_out,
        progress=lambda *at: steps.append(at),
        log=logged.append,
    )
    assert history[-1].held_out == accuracy(model, held_out, config) >= 0.97
    assert history[-1].loss < history[0].loss
    assert not model.training
    assert tuple(logged) == history and [epoch.epoch for epoch in history] == list(range(1, 13))
    assert steps == [(i + 1, 72) for i in range(72)]


def test_same_seed_same_weights_another_seed_others() -> None:
    first, again, other = trained(CONFIG), trained(CONFIG), trained(replace(CONFIG, seed=1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["conv.weight"], other["conv.weight"])


def test_leaves_the_random_state_of_the_process_alone() -> None:
    before = torch.random.get_rng_state()
    trained(replace(CONFIG, epochs=1))
    assert torch.equal(before, torch.random.get_rng_state())


def test_bfloat16_leaves_float32_weights() -> None:
    state = trained(replace(CONFIG, epochs=1, precision="bfloat16"))
    assert state["conv.weight"].dtype == torch.float32


def test_averaged_weights_are_the_result_and_what_is_measured() -> None:
    model, held_out = small_net(), stripes(51, seed=2)
    config = replace(CONFIG, ema=0.9)
    history = train(model, stripes(40, seed=1), config, held_out=held_out)
    assert history[-1].held_out == accuracy(model, held_out, config)
    assert not torch.equal(model.state_dict()["conv.weight"], trained(CONFIG)["conv.weight"])


def test_a_loss_that_is_not_finite_stops_before_it_spoils_the_weights() -> None:
    model = small_net()
    with torch.no_grad():
        model.get_parameter("fc.bias")[0] = float("nan")
    before = model.get_parameter("conv.weight").clone()
    with pytest.raises(ConvAtlasError, match=r"loss is nan in epoch 1, step 1 of 2, at learning rate 0\.001.*Lower"):
        train(model, stripes(40, seed=1), CONFIG)
    assert torch.equal(model.get_parameter("conv.weight"), before)


def test_the_layer_and_the_images_are_named() -> None:
    images = stripes(40, seed=1)
    images.names = names = [f"photo{i}.jpg" for i in range(40)]
    model = small_net()

    def divide(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> Tensor:
        return made / 0

    model.get_submodule("relu").register_forward_hook(divide)
    kept = {name: p.clone() for name, p in model.named_parameters()}
    with pytest.raises(
        ConvAtlasError, match=r"the first layer that gives no finite numbers is relu \(ReLU\)"
    ) as caught:
        train(model, images, CONFIG)
    named = set(names) & set(caught.value.message.replace(",", " ").replace("jpg.", "jpg ").split())
    assert len(named) == CONFIG.batch_size
    assert all(torch.equal(p, kept[name]) for name, p in model.named_parameters())


def test_a_gradient_that_is_not_finite_reaches_no_weight() -> None:
    model = small_net()
    model.get_parameter("conv.weight").register_hook(lambda gradient: gradient * float("inf"))
    before = {name: p.clone() for name, p in model.named_parameters()}
    with pytest.raises(ConvAtlasError, match=r"the loss is \d.*; the gradient of conv.weight is not finite"):
        train(model, stripes(40, seed=1), CONFIG)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_fewer_images_than_a_batch_are_one_batch() -> None:
    history = train(small_net(), stripes(5, seed=1), replace(CONFIG, epochs=1))
    assert len(history) == 1


def test_images_it_cannot_train_on() -> None:
    with pytest.raises(ValueError, match="4 images with 3 labels"):
        InMemory(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="1 images; training needs at least two"):
        train(small_net(), stripes(1, seed=1), CONFIG)


def test_batch_norm_needs_two_images() -> None:
    with pytest.raises(ConvAtlasError, match="batch norm needs at least 2 images"):
        train(small_net(), stripes(5, seed=1), replace(CONFIG, batch_size=1))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"epochs": 0}, "not 0 and 20"),
        ({"mean": (0.5,)}, "1 channels and std has 3"),
        ({"micro_batch": 17}, "micro_batch is 17; give images, up to batch_size"),
        ({"patience": -1}, "counted from 0, not -1"),
        ({"augment.flip": 0.3, "augment.flip_mode": "alternate"}, "augment.flip is 0.3; flips that alternate"),
        ({"optim.rise": 1.0}, "optim.rise in"),
        ({"optim.norm_bias_lr": 0}, "norm_bias_lr is above 0"),
    ],
)
def test_configs_that_mean_nothing(field: dict[str, Any], message: str) -> None:
    parts: dict[str, dict[str, Any]] = {"": {}, "optim": {}, "augment": {}}
    for path, value in field.items():
        part, _, name = path.rpartition(".")
        parts[part][name] = value
    with pytest.raises(ValueError, match=message):
        replace(
            *(CONFIG,),
            **parts[""],
            optim=replace(CONFIG.optim, **parts["optim"]),
            augment=replace(CONFIG.augment, **parts["augment"]),
        )


def test_the_learning_rate_warms_up_and_follows_a_cosine() -> None:
    optim = Optim(lr=1.0, warmup_epochs=2, final_lr=0.1)
    rates = [learning_rate(optim, epoch, 10) for epoch in (0, 1, 2, 6, 10)]
    assert rates == pytest.approx([0.01, 0.505, 1.0, 0.55, 0.1])
    assert learning_rate(Optim(lr=1.0, warmup_epochs=5), 1, 2) == pytest.approx(1.0)  # never more than half of the run


@pytest.mark.parametrize("epochs", [1, 4, 100])
def test_a_triangle_rises_and_falls_in_shares_of_the_run(epochs: int) -> None:
    optim = Optim(lr=2.0, schedule="triangle", rise=0.2, final_lr=0.1)
    rates = [learning_rate(optim, share * epochs, epochs) for share in (0, 0.1, 0.2, 0.6, 1)]
    assert rates == pytest.approx([0.4, 1.2, 2.0, 1.1, 0.2])


def test_biases_of_norms_have_a_rate_of_their_own_and_no_more_decay_a_step() -> None:
    model = small_net()
    groups = optimiser(model, Optim(weight_decay=0.1, decay_all=True, norm_bias_lr=8)).param_groups
    quick = [group for group in groups if group["scale"] != 1]
    assert [id(p) for group in quick for p in group["params"]] == [id(model.get_parameter("norm.bias"))]
    assert {group["scale"] * group["weight_decay"] for group in groups} == {0.1}
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in model.parameters()}


def test_halves_and_rates_that_mean_nothing() -> None:
    with pytest.raises(ValueError, match=r"augment.flip is 0.3; flips that alternate are of one half"):
        Augment(flip=0.3, flip_mode="alternate")
    with pytest.raises(ValueError, match=r"optim.norm_bias_lr is above 0, not 0"):
        Optim(norm_bias_lr=0)


def test_a_group_learns_at_its_scale() -> None:
    """Without momentum and decay the first step of the norm's bias is `norm_bias_lr` times what it is without."""
    images = stripes(16, seed=1)
    steps: list[Tensor] = []
    for scale in (1.0, 8.0):
        model = small_net()
        plain = Optim(lr=0.1, momentum=0, weight_decay=0, warmup_epochs=0, norm_bias_lr=scale)
        train(model, images, TrainConfig(epochs=1, batch_size=16, image_size=16, optim=plain))
        steps.append(model.get_parameter("norm.bias") - small_net().get_parameter("norm.bias"))
    torch.testing.assert_close(steps[1], 8 * steps[0])
    assert steps[0].any()


def test_flips_that_alternate_show_every_image_both_ways_in_two_epochs() -> None:
    n, model = 40, small_net()
    images = torch.zeros(n, 3, 16, 16, dtype=torch.uint8)
    images[:, :, :, 0] = torch.arange(1, n + 1, dtype=torch.uint8)[:, None, None]  # its number, at the left
    seen: list[Tensor] = []

    def look(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0].mul(255).round()[:, 0, 0])  # the first row

    model.get_submodule("conv").register_forward_pre_hook(look)
    config = TrainConfig(
        epochs=4,
        batch_size=10,
        image_size=16,
        optim=Optim(lr=0.01),
        augment=Augment(flip=0.5, flip_mode="alternate"),
        mean=(0, 0, 0),
        std=(1, 1, 1),
    )
    train(model, InMemory(images, torch.arange(n) % 2), config)
    for epoch in range(3):
        left, right = (torch.cat(seen[4 * epoch : 4 * epoch + 8])[:, side].sort().values for side in (0, -1))
        numbers = torch.arange(1.0, n + 1)
        assert torch.equal(left, torch.cat([torch.zeros(n), numbers])) and torch.equal(right, left)
    first = torch.cat(seen[:4])[:, 0].count_nonzero()
    assert 8 < int(first) < 32


def test_norms_and_biases_are_not_decayed() -> None:
    decayed, kept = optimiser(small_net(), Optim(weight_decay=0.1)).param_groups
    assert [p.ndim for p in decayed["params"]] == [4, 2] and decayed["weight_decay"] == 0.1
    assert [p.ndim for p in kept["params"]] == [1, 1, 1] and kept["weight_decay"] == 0


def test_steps_divide_the_learning_rate_by_ten() -> None:
    optim = Optim(lr=0.1, warmup_epochs=0, schedule="step", drops=(0.5, 0.75))
    rates = [learning_rate(optim, epoch, 8) for epoch in (0, 3.9, 4, 5.9, 6, 7.9)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_decay_is_of_what_it_is_said_to_be_of() -> None:
    model = small_net()
    for decay_all in (False, True):
        groups = optimiser(model, Optim(weight_decay=0.1, decay_all=decay_all)).param_groups
        decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
        assert decayed == {id(p) for p in model.parameters() if decay_all or p.ndim > 1}


def without_norm() -> nn.Sequential:
    """Whose images do not know of one another."""
    return nn.Sequential(*(layer for layer in small_net() if not isinstance(layer, nn.BatchNorm2d | nn.Dropout)))


PLAIN = replace(CONFIG, augment=Augment(), epochs=2)


@pytest.mark.parametrize("size", [1, 3, 7, 16])
def test_micro_batches_add_up_to_the_batch(size: int) -> None:
    whole, parts = without_norm(), without_norm()
    first = train(whole, stripes(40, seed=1), PLAIN)
    again = train(parts, stripes(40, seed=1), replace(PLAIN, micro_batch=size))
    for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6)
    assert [epoch.loss for epoch in again] == pytest.approx([epoch.loss for epoch in first], abs=1e-6)
    assert [epoch.top1 for epoch in again] == [epoch.top1 for epoch in first]


def short_of_memory(most: int, model: nn.Module | None = None) -> nn.Module:
    """A network that finds no memory for more than `most` images at once, at its end: earlier layers have seen them by then."""
    model = model or small_net()

    def refuse(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if len(given[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.get_submodule("fc").register_forward_pre_hook(refuse)
    return model


def test_out_of_memory_halves_the_micro_batch_and_holds_the_batch() -> None:
    said: list[str] = []
    model, asked = short_of_memory(5), small_net()
    history = train(model, stripes(40, seed=1), CONFIG, say=said.append)
    assert said == [
        f"memory does not suffice for {n} images at once; going on with {n // 2}, batches as before" for n in (16, 8)
    ]
    assert history == tuple(
        replace(epoch, seconds=mine.seconds)
        for epoch, mine in zip(train(asked, stripes(40, seed=1), replace(CONFIG, micro_batch=4)), history, strict=True)
    )
    for key, x in asked.state_dict().items():  # running statistics too: what failed left nothing behind
        assert torch.equal(model.state_dict()[key], x), key


def judging_at_most(most: int) -> nn.Module:
    """A network that finds no memory for more than `most` images at once where it is judged."""
    model = small_net()

    def refuse(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if not model.training and len(given[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.get_submodule("fc").register_forward_pre_hook(refuse)
    return model


def test_no_memory_to_judge_a_batch_loses_no_epoch() -> None:
    images, held_out, said = stripes(40, seed=1), stripes(21, seed=2), list[str]()
    history = train(judging_at_most(3), images, CONFIG, held_out=held_out, say=said.append)
    asked = train(small_net(), images, CONFIG, held_out=held_out)
    assert said == [] and len(history) == CONFIG.epochs
    assert [epoch.held_out for epoch in history] == [epoch.held_out for epoch in asked]
    with pytest.raises(ConvAtlasError, match="memory does not suffice for one image of 20 pixels.*eval_size"):
        train(judging_at_most(0), images, CONFIG, held_out=held_out)


def test_no_memory_for_one_image_is_an_error() -> None:
    with pytest.raises(ConvAtlasError, match=r"memory does not suffice for 2 images at once. Batch norm.*smaller"):
        train(short_of_memory(0), stripes(40, seed=1), CONFIG)
    without = nn.Sequential(OrderedDict(flat=nn.Flatten(), fc=nn.Linear(1200, 2)))
    with pytest.raises(ConvAtlasError, match=r"memory does not suffice for 1 images at once\. Train on smaller"):
        train(short_of_memory(0, without), stripes(40, seed=1), CONFIG)


def test_no_image_is_left_alone_with_batch_norm() -> None:
    """Ten images, no more than three at once, are 2, 3, 2 and 3, and not 3, 3, 3 and 1; a batch of three is not parted."""
    pooled = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 4, 3),
            pool=nn.AdaptiveAvgPool2d(1),
            norm=nn.BatchNorm2d(4),
            flat=nn.Flatten(),
            fc=nn.Linear(4, 2),
        )
    )  # one value a channel of each image
    said: list[str] = []
    train(short_of_memory(3, pooled), stripes(40, seed=1), replace(CONFIG, batch_size=10), say=said.append)
    assert len(said) == 2
    with pytest.raises(ConvAtlasError, match=r"3 images, 2 at once, leave one alone, and batch norm"):
        train(small_net(), stripes(40, seed=1), replace(CONFIG, batch_size=3, micro_batch=2))


@pytest.mark.parametrize("part", range(1, 13))
@pytest.mark.parametrize("size", range(1, 13))
def test_micro_batches_are_as_large_as_one_another(part: int, size: int) -> None:
    order = Order(torch.zeros(40, dtype=torch.int64), replace(CONFIG, batch_size=2 * part), rank=1, count=2)
    parts = [indices for indices, _ in order.micro_batches(0, size, until=1)]
    sizes = list(map(len, parts))
    assert max(sizes) <= size and max(sizes) - min(sizes) <= 1 and min(sizes) == order.smallest(size)
    assert torch.equal(torch.cat(parts), order.batch(0)[part:])


def test_other_errors_of_the_network_are_its_own() -> None:
    model = small_net()
    model.get_submodule("fc").register_forward_pre_hook(lambda module, given: (given[0][:, :3],))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train(model, stripes(40, seed=1), CONFIG)


def fails_once(step: int) -> nn.Module:
    """A network whose outputs are NaN in one forward pass of training."""
    model, passes = small_net(), [0]

    def spoil(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> Tensor | None:
        passes[0] += module.training and torch.is_grad_enabled()
        return made * float("nan") if passes[0] == step else None

    model.get_submodule("fc").register_forward_hook(spoil)
    return model


def test_a_retry_goes_on_from_where_the_epoch_began_at_a_tenth() -> None:
    said: list[str] = []
    history = train(fails_once(6), stripes(40, seed=1), replace(CONFIG, retries=1, ema=0.9), say=said.append)
    usual = train(small_net(), stripes(40, seed=1), replace(CONFIG, ema=0.9))
    assert len(said) == 1 and "epoch 3, step 2 of 2" in said[0] and "at a tenth of the learning rate" in said[0]
    assert [epoch.lr for epoch in history] == pytest.approx([e.lr * (1 if e.epoch < 3 else 0.1) for e in usual])
    assert [epoch.loss for epoch in history[:2]] == [epoch.loss for epoch in usual[:2]]


def test_a_retry_in_float16_is_no_step_unscaled_twice() -> None:
    config, said = replace(CONFIG, retries=1, precision="float16"), list[str]()
    history = train(fails_once(4), stripes(40, seed=1), config, say=said.append)
    assert len(said) == 1 and len(history) == CONFIG.epochs and all(math.isfinite(epoch.loss) for epoch in history)


def test_after_the_last_retry_it_is_an_error() -> None:
    model = small_net()
    with torch.no_grad():
        model.get_parameter("fc.bias")[0] = float("nan")
    said: list[str] = []
    with pytest.raises(ConvAtlasError, match=r"loss is nan in epoch 1.*at learning rate 1e-05"):
        train(model, stripes(40, seed=1), replace(CONFIG, retries=2), say=said.append)
    assert len(said) == 2


def test_what_is_not_finite_leaves_running_statistics_alone() -> None:
    model = fails_once(2)
    before: dict[str, Tensor] = {}
    with pytest.raises(ConvAtlasError, match="step 2 of 2"):
        train(
            *(model, stripes(40, seed=1), CONFIG),
            progress=lambda step, steps: before.update({key: x.clone() for key, x in model.state_dict().items()}),
        )
    assert all(torch.equal(x, before[key]) for key, x in model.state_dict().items())


def test_patience_ends_with_the_best_weights() -> None:
    model, held_out = small_net(), stripes(50, seed=2)
    states: list[dict[str, Tensor]] = []
    history = train(
        *(model, stripes(40, seed=1), replace(CONFIG, epochs=40, patience=3)),
        held_out=held_out,
        part="val",
        log=lambda epoch: states.append({key: x.clone() for key, x in model.state_dict().items()}),
    )
    accuracies = [epoch.held_out or 0 for epoch in history]
    best = accuracies.index(max(accuracies))
    assert len(history) == best + 1 + 3 < 40
    assert all(torch.equal(x, states[best][key]) for key, x in model.state_dict().items())
    assert accuracy(model, held_out, CONFIG) == max(accuracies)


def test_patience_needs_something_to_be_measured() -> None:
    with pytest.raises(ConvAtlasError, match="patience looks at a validation part, and there is none"):
        train(small_net(), stripes(40, seed=1), replace(CONFIG, patience=1))
    with pytest.raises(ConvAtlasError, match="only a test part, which nothing may be chosen by"):
        train(small_net(), stripes(40, seed=1), replace(CONFIG, patience=1), held_out=stripes(8, seed=2), part="test")


def uneven(n: int) -> InMemory:
    """One image in eight is of class 1."""
    images = stripes(n, seed=3)
    chosen = torch.cat([(images.labels == 0).nonzero()[:, 0], (images.labels == 1).nonzero()[: n // 14, 0]])
    return InMemory(images.images[chosen], images.labels[chosen])


def test_balanced_sampling_draws_classes_alike() -> None:
    images = uneven(400)
    order = Order(images.labels, replace(CONFIG, balance="sampling"))
    drawn = torch.cat([order.batch(step) for step in range(8 * order.steps)])
    share = images.labels[drawn].float().mean()
    assert float(images.labels.float().mean()) < 0.15 and abs(float(share) - 0.5) < 0.05


@pytest.mark.parametrize("labels", [[0, 0, 0, 1], [2, 2, 0, 0, 0, 0], [1], list(range(7))])
def test_weights_make_classes_count_alike(labels: list[int]) -> None:
    truth = torch.tensor(labels)
    weights = balanced(truth)
    sums = torch.stack([weights[truth][truth == label].sum() for label in truth.unique()])
    assert torch.allclose(sums, sums[0].expand_as(sums))
    assert float(weights[truth].mean()) == pytest.approx(1)


def test_weighted_losses_are_those_of_the_images_times_their_class_weight() -> None:
    model, images = without_norm(), uneven(100)
    x, truth = images.images.float() / 255, images.labels
    own, weights = torch.ones(len(truth)), balanced(truth)
    found, correct = Objective(model, PLAIN, weights)(x, truth, truth, own)
    each = torch.nn.functional.cross_entropy(model(x), truth, reduction="none")
    assert torch.allclose(found, (each * weights[truth]).mean())
    assert int(correct) == int((model(x).argmax(1) == truth).sum())


@pytest.mark.parametrize("batch", [5, 8, 16])
def test_every_image_is_seen_once_an_epoch(batch: int) -> None:
    order = Order(torch.zeros(40, dtype=torch.int64), replace(CONFIG, batch_size=batch))
    for epoch in range(3):
        seen = torch.cat([order.batch(epoch * order.steps + step) for step in range(order.steps)])
        assert len(seen.unique()) == len(seen) == 40 // batch * batch


def test_parts_of_processes_make_up_the_batch() -> None:
    labels = torch.zeros(40, dtype=torch.int64)
    parts = [
        indices
        for rank in range(4)
        for indices, _ in Order(labels, CONFIG, rank=rank, count=4).micro_batches(3, 3, until=4)
    ]
    assert [len(part) for part in parts] == [2, 2] * 4
    assert torch.equal(torch.cat(parts), Order(labels, CONFIG).batch(3))


def test_float16_scales_the_loss_and_leaves_out_steps_that_overflow() -> None:
    model = small_net()
    history = train(model, stripes(40, seed=1), replace(CONFIG, precision="float16"))
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in model.parameters())
    assert history[-1].loss < 1
