"""A network is a chain of named stages and a head; a cut names a boundary in that chain.

Every network of the zoo is a `ConvNet`: `forward(image) = head(stages(image))`, where `stages` is `stem, stage1 … stageN` and each of
them, like the head, is a sequence of named blocks. A stage begins with its downsampling, so its output is the last map at
that resolution. From this come the three functions nearly everything else is built on: `prefix`, `suffix` and `taps`.

A cut is the path of a block: `stage4` (after the whole stage), `stage4.1` (after its second block), `head.fc7` (inside the classifier).
Networks whose first layers are a stage of their own (AlexNet, VGG, GoogLeNet) have no stem. NASNet's blocks pass a pair of
maps; `feature` gives the one that a cut stands for.
"""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from convatlas.zoo.sizes import misfit

if TYPE_CHECKING:
    from jaxtyping import Float


class ConvNet(nn.Module):
    """The one base class of the zoo: an image classifier as a chain of named stages and a head."""

    stages: nn.Sequential
    head: nn.Sequential
    config: Any  # its family's frozen dataclass: what tells this network from the family's others
    classifiers: ClassVar[tuple[str, ...]] = ("head.fc",)  # the modules whose outputs are the classes
    optional: ClassVar[tuple[str, ...]] = ()  # parts that weights may hold although a variant has them not

    def __init__(self, stages: Mapping[str, nn.Module], head: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.stages = nn.Sequential(OrderedDict(stages))
        self.head = nn.Sequential(OrderedDict(head))

    def forward(self, image: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Logits (n, num_classes) of a batch of images (n, channels, height, width); features where `num_classes` is 0.

        Raises `ValueError`, naming the sizes that do, for images of a size or with channels that the network cannot take.
        """
        try:
            return self.head(self.stages(image))
        except RuntimeError as error:
            if said := misfit(self, image):
                raise ValueError(said) from error
            raise

    def all_logits(self, image: Float[Tensor, "n c h w"]) -> tuple[Tensor, ...]:
        """The logits and, for a network with auxiliary classifiers, theirs: what a training loss may look at."""
        return (self(image),)


def feature(activation: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The maps at a cut: the activation itself or, where blocks pass a pair (previous, current), its current."""
    return activation if isinstance(activation, Tensor) else activation[-1]


def prefix(model: ConvNet, cut: str) -> nn.Sequential:
    """The part of `model` up to and including `cut`, as a module that shares its weights.

    Raises `ValueError` for a cut the network does not have, naming the nearest that it has.
    """
    return _upto(_chain(model), _path(model, cut))


def suffix(model: ConvNet, cut: str) -> nn.Sequential:
    """The part of `model` after `cut`, head included, as a module that shares its weights.

    In evaluation mode `suffix(model, cut)(prefix(model, cut)(x))` equals `model(x)` bit for bit on one device, memory format
    and thread count.
    """
    return _after(_chain(model), _path(model, cut))


class Taps(nn.Module):
    """Runs a network once, up to the last of the cuts, and returns the activation at each: see `taps`."""

    def __init__(self, names: tuple[str, ...], segments: Iterable[nn.Module]) -> None:
        super().__init__()
        self.names = names
        self.segments = nn.ModuleList(segments)

    def forward(self, image: Float[Tensor, "n c h w"]) -> dict[str, Tensor]:
        """The activation at every cut, keyed by its name, in the network's order."""
        found: dict[str, Tensor] = {}
        x = image
        for name, segment in zip(self.names, self.segments, strict=True):
            x = segment(x)
            found[name] = feature(x)
        return found


def taps(model: ConvNet, cuts: Iterable[str]) -> Taps:
    """A module that returns `{cut: activation}` for several cuts from one forward pass, sharing the weights of `model`."""
    order = list(iter_cuts(model))
    wanted = sorted({cut: _path(model, cut) for cut in cuts}, key=order.index)
    segments: list[nn.Module] = []
    rest = _chain(model)
    for i, cut in enumerate(wanted):
        segments.append(_upto(rest, tuple(cut.split("."))))
        if i + 1 < len(wanted):
            rest = _after(rest, tuple(cut.split(".")))
    return Taps(tuple(wanted), segments)


def iter_cuts(model: ConvNet) -> Iterator[str]:
    """Every cut of the network in the order in which the activations are computed; a block comes before the stage it ends."""
    yield from _walk(_chain(model), ())


def stage_names(model: ConvNet) -> tuple[str, ...]:
    """`("stage1", …, "stageN")`: the rungs of the stage ladder (the stem is part of the way to stage1)."""
    return tuple(name for name, _ in model.stages.named_children() if name != "stem")


def hidden_names(model: ConvNet) -> tuple[str, ...]:
    """The cuts after the classifier's hidden layers, `("head.fc6", "head.fc7")` of an AlexNet: further rungs of the stage ladder."""
    blocks = {f"head.{name}": block for name, block in model.head.named_children()}
    return tuple(
        cut
        for cut, block in blocks.items()
        if cut not in model.classifiers and any(isinstance(module, nn.Linear) for module in block.modules())
    )


def _chain(model: ConvNet) -> nn.Sequential:
    return nn.Sequential(OrderedDict([*model.stages.named_children(), ("head", model.head)]))


def _walk(sequence: nn.Sequential, above: tuple[str, ...]) -> Iterator[str]:
    for name, child in sequence.named_children():
        if isinstance(child, nn.Sequential):
            yield from _walk(child, (*above, name))
        yield ".".join((*above, name))


def _path(model: ConvNet, cut: str) -> tuple[str, ...]:
    known = list(iter_cuts(model))
    if cut not in known:
        near = difflib.get_close_matches(cut, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the stages are {', '.join(stage_names(model))}"
        raise ValueError(f"{type(model).__name__} has no cut {cut!r}; {hint}")
    return tuple(cut.split("."))


def _upto(sequence: nn.Module, path: tuple[str, ...]) -> nn.Sequential:
    kept: OrderedDict[str, nn.Module] = OrderedDict()
    for name, child in sequence.named_children():
        if name != path[0]:
            kept[name] = child
            continue
        kept[name] = _upto(child, path[1:]) if path[1:] else child
        break
    return nn.Sequential(kept)


def _after(sequence: nn.Module, path: tuple[str, ...]) -> nn.Sequential:
    kept: OrderedDict[str, nn.Module] = OrderedDict()
    children = iter(sequence.named_children())
    for name, child in children:
        if name == path[0]:
            if path[1:]:
                kept[name] = _after(child, path[1:])
            break
    kept.update(children)
    return nn.Sequential(kept)
