"""Losses against what they are by definition, and auxiliary classifiers that count as they should."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_loop import CONFIG, small_net, stripes
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas import zoo
from convatlas.errors import ConvAtlasError
from convatlas.train import Augment, TrainConfig, train
from convatlas.train.augment import changed
from convatlas.train.losses import Objective, classification, logits

DRAWS = torch.Generator().manual_seed(0)
LOGITS, LABELS, OTHERS = (
    torch.randn(6, 4, generator=DRAWS),
    torch.tensor([0, 1, 2, 3, 0, 1]),
    torch.tensor([1, 1, 0, 0, 2, 3]),
)
OWN = torch.tensor([1.0, 0.5, 0.3, 0.0, 0.9, 0.1])


def test_cross_entropy_of_shared_and_smoothed_labels() -> None:
    target = OWN[:, None] * F.one_hot(LABELS, 4) + (1 - OWN)[:, None] * F.one_hot(OTHERS, 4)
    target = 0.9 * target + 0.1 / 4
    expected = -(target * LOGITS.log_softmax(1)).sum(1)
    torch.testing.assert_close(classification(LOGITS, LABELS, others=OTHERS, own=OWN, smoothing=0.1), expected)
    torch.testing.assert_close(classification(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS, reduction="none"))


def test_weights_are_those_of_the_labels() -> None:
    weights = torch.tensor([1.0, 2.0, 4.0, 8.0])
    plain = classification(LOGITS, LABELS)
    torch.testing.assert_close(classification(LOGITS, LABELS, weights=weights), plain * weights[LABELS])
    binary = classification(LOGITS, LABELS, binary=True)
    torch.testing.assert_close(classification(LOGITS, LABELS, weights=weights, binary=True), binary * weights[LABELS])


def test_a_binary_loss_asks_each_class_and_takes_both_labels_of_a_mixed_image() -> None:
    target = F.one_hot(LABELS, 4).float()
    target[1] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    target[2] = torch.tensor([1.0, 0.0, 1.0, 0.0])  # 0.3 of one, 0.7 of the other: two full ones
    target[3] = torch.tensor([1.0, 0.0, 0.0, 0.0])  # all of it is the other's
    target[4] = torch.tensor([1.0, 0.0, 0.0, 0.0])  # a tenth is not seen
    target[5] = torch.tensor([0.0, 0.0, 0.0, 1.0])
    expected = F.binary_cross_entropy_with_logits(LOGITS, target, reduction="none").mean(1)
    torch.testing.assert_close(classification(LOGITS, LABELS, others=OTHERS, own=OWN, binary=True), expected)


@pytest.mark.parametrize(
    ("name", "changes", "weight"), [("googlenet_bn_aux", {}, 0.3), ("nasnet_a_cifar", {"auxiliary": True, "cells": 1}, 0.4)]
)  # fmt: skip
def test_auxiliary_losses_count_as_much_as_they_are_said_to(
    name: str, changes: dict[str, object], weight: float
) -> None:
    config = replace(zoo.config_of(name), **changes)
    model = zoo.build(name, num_classes=3, config=config).eval()  # the same for both: no dropout, fixed norms
    side = zoo.native(name)[0][1]
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 2])
    plain = TrainConfig(epochs=1, image_size=side)
    with torch.no_grad():
        main, correct = Objective(model, plain)(*changed(images, labels, plain, 0))
        both, same = Objective(model, replace(plain, auxiliary=weight))(*changed(images, labels, plain, 0))
        x = (images.float() / 255 - torch.tensor(plain.mean)[:, None, None]) / torch.tensor(plain.std)[:, None, None]
        answers = logits(model, x, weight)
    assert len(answers) == (3 if "google" in name else 2) and int(correct) == int(same)
    parts = [F.cross_entropy(answer, labels) for answer in answers]
    torch.testing.assert_close(main, parts[0])
    torch.testing.assert_close(both, parts[0] + weight * torch.stack(parts[1:]).sum())


def test_auxiliary_losses_of_a_network_without_are_refused() -> None:
    for model in (small_net(), zoo.build("resnet20_cifar", num_classes=2), zoo.build("nasnet_a_cifar", num_classes=2)):
        with pytest.raises(ConvAtlasError, match="has no auxiliary classifiers"):
            train(model, stripes(4, seed=1), replace(CONFIG, auxiliary=0.3))


def test_drop_path_grows_over_a_run() -> None:
    config = replace(zoo.config_of("nasnet_a_cifar"), cells=1, width=4, stem=8)
    model = zoo.build("nasnet_a_cifar", num_classes=2, config=config)
    last = [module for module in model.modules() if isinstance(module, zoo.nasnet.DropPath)][-1]
    seen: list[float] = []

    def look(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if module.training:
            seen.append(last.rate)

    last.register_forward_pre_hook(look)
    train(model, stripes(8, seed=1), replace(CONFIG, epochs=2, batch_size=4, augment=Augment()))
    steps = sorted(set(seen))
    assert seen == sorted(seen) and steps == pytest.approx([0.4 * step / 4 for step in range(4)])
