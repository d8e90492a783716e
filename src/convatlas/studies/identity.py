"""He et al. Deep Residual Learning. 2015. https://arxiv.org/abs/1512.03385, section 1: a solution of the deeper network by construction.

Copy the layers of the trained shallow network and let the added ones be the identity: the deeper network is then exactly as good. A plain
block can be the identity, since what it is given has been through a rectifier and is not negative: two 3×3 convolutions with a one in the
middle, and batch norms that change nothing. So that the deeper plain network trains worse is not for want of a solution.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from convatlas.errors import ConvAtlasError
from convatlas.studies.finding import Cell, Chart, Column, Finding, by_image, percent, points
from convatlas.studies.laboratory import Laboratory, error, initial
from convatlas.studies.plans import many
from convatlas.zoo.resnet import Residual, ResNet

SHALLOW, DEEP = "plain20_cifar", "plain56_cifar"


def find(laboratory: Laboratory) -> Finding:
    """Takes the plain-20 and plain-56 of the first seed, or trains them, deepens the plain-20 to 56 layers and counts all three."""
    training, from_scratch = (laboratory.of_recipe(name, 0) for name in (SHALLOW, DEEP))
    there = {found.name: found for found in laboratory.trained([training, from_scratch])}
    shallow, scratch = there.get(SHALLOW), there.get(DEEP)
    if not shallow or not shallow.counted:
        raise ConvAtlasError(
            f"{laboratory.runs}: {training.folder} is not finished.", remedy="Leave out --partial to train it."
        )
    model = initial(training)
    assert isinstance(model, ResNet)
    model.load_state_dict(shallow.state)
    fresh = initial(from_scratch)
    assert isinstance(fresh, ResNet)
    fresh.load_state_dict(deepened(model, fresh.config.blocks).state_dict())  # strictly: it is a plain-56
    data = {"training": laboratory.training, "test": laboratory.held_out}
    before = {"training": shallow.counted.training, "test": shallow.counted.held_out}
    after = {part: laboratory.logits(fresh, images, training.config) for part, images in data.items()}
    drift = max(float((after[part] - before[part]).abs().max()) for part in data)
    kinds: dict[str, dict[str, torch.Tensor]] = {"plain-20, trained": before, "plain-56, constructed from it": after}
    if scratch and (counted := scratch.counted):
        kinds["plain-56, trained from scratch"] = {"training": counted.training, "test": counted.held_out}
    errors = {kind: {part: error(logits[part], data[part].labels) for part in data} for kind, logits in kinds.items()}
    rows: list[list[Cell]] = [
        [kind, sum(p.numel() for p in (model if kind.startswith("plain-20") else fresh).parameters()), *each.values()]
        for kind, each in errors.items()
    ]
    same = all(errors["plain-20, trained"][part] == errors["plain-56, constructed from it"][part] for part in data)
    return Finding(
        title="A deeper solution by construction",
        protocol=(
            f"A plain-20 and a plain-56 trained on {len(laboratory.training):,} images for {many(len(shallow.epochs), 'epoch')}, one "
            "seed; and the plain-20 with six blocks that are the identity added to each of its three stages. All are counted in "
            f"evaluation mode, on the training images without augmentation and on {len(laboratory.held_out):,} held-out images. In "
            "training mode batch norm standardises, and the identity does not hold."
        ),
        columns=(
            Column(name="network", kind="text"),
            Column(name="parameters", kind="count"),
            Column(name="training error", kind="percent"),
            Column(name="test error", kind="percent"),
        ),
        rows=rows,
        chart=Chart(
            kind="dots",
            caption="The same shape of 56 layers, once with weights that were constructed and once trained.",
            x="error",
            percent=True,
            rows=[
                {"panel": f"{part} error", "label": kind, "x": found[part]}
                for part in data
                for kind, found in errors.items()
            ],
        ),
        paragraph=_told(errors, drift, same, kinds, laboratory),
        figures={"largest_difference_of_a_logit": drift, "errors": errors},
    )


def deepened(model: ResNet, blocks: tuple[int, ...]) -> ResNet:
    """A plain network with so many blocks in each stage that computes, in evaluation mode, what `model` does."""
    config = model.config
    if config.shortcut != "none" or config.bottleneck:
        raise ValueError("expected a plain network of two convolutions a block")
    if len(blocks) != len(config.blocks) or any(new < old for new, old in zip(blocks, config.blocks, strict=True)):
        raise ValueError(f"a network of {config.blocks} blocks cannot be deepened to {blocks}")
    classes, stem = model.get_submodule("head.fc"), model.get_submodule("stages.stem.conv")
    assert isinstance(classes, nn.Linear) and isinstance(stem, nn.Conv2d)
    deep = ResNet(replace(config, blocks=blocks), num_classes=classes.out_features, in_channels=stem.in_channels)
    deep.load_state_dict(model.state_dict(), strict=False)  # the blocks that both have; the others now:
    for s, (old, new) in enumerate(zip(config.blocks, blocks, strict=True), start=1):
        for b in range(old, new):
            block = deep.get_submodule(f"stages.stage{s}.{b}")
            assert isinstance(block, Residual)
            make_identity(block)
    return deep.eval()


@torch.no_grad()
def make_identity(block: nn.Module) -> None:
    """Gives a plain block weights with which it returns maps that are not negative as they are."""
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.dirac_(module.weight)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.zero_()
            module.running_var.fill_(1 - module.eps)  # what it divides by is the root of this plus eps: 1
            module.weight.fill_(1.0)
            module.bias.zero_()


def _told(
    errors: dict[str, dict[str, float]],
    drift: float,
    same: bool,
    kinds: dict[str, dict[str, torch.Tensor]],
    laboratory: Laboratory,
) -> str:
    trained, made = errors["plain-20, trained"], errors["plain-56, constructed from it"]
    if same:
        logits = "no logit differs" if drift == 0 else f"logits differ by {drift:.1e} at most"
        told = (
            f"The 56-layer plain network has weights with which it errs on {percent(made['training'])} of the training images, exactly as "
            f"the 20-layer network that they were made from; {logits}."
        )
    else:
        told = (
            f"The constructed network errs on {percent(made['training'])} of the training images and the one that it was made from on "
            f"{percent(trained['training'])}: logits differ by up to {drift:.1e}, so the construction is not exact here."
        )
    scratch = kinds.get("plain-56, trained from scratch")
    if scratch is None:
        return f"{told} The plain-56 trained from scratch is not finished, so it is not compared with one."
    labels = laboratory.training.labels
    answers = (scratch["training"], kinds["plain-56, constructed from it"]["training"])
    wrong, fewer = ((each.argmax(1) != labels).int() for each in answers)
    found = by_image((wrong - fewer).tolist())
    claim = {
        "more": "Trained from scratch the same shape does worse, though the better weights are there: training does not find them",
        "less": "Trained from scratch the same shape does better than these weights",
    }.get(found.shown, "Trained from scratch the same shape is not shown to do better or worse on the training images")
    return f"{told} {claim} ({points(found)} of training error; of these two networks, one seed each)."
