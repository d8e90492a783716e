"""Zhou et al. Learning Deep Features for Discriminative Localization. 2016. https://arxiv.org/abs/1512.04150: where an answer comes from.

A class's score is a weighted sum of the means of maps, so it is also the mean over places of the weighted sum of the maps: the
class-activation map, whose mean and the bias are the logit exactly. Nothing is estimated. The same holds for a map's standard deviation s,
by an identity of ours to which the paper has no counterpart: s = mean of (x − mean)² / s, so each place contributes in proportion to its
squared distance from the map's mean.

Where the model remembers its training images' mean, maps are measured against it: what the mean image would score goes from the map into
the bias, and orange or blue says "more or less than usual" instead of mostly showing what every image has. Maps of several stages are
enlarged to the finest of them and added.

A whole network has such a map where the mean over places of its scores, slid over the image, is its logit; this is checked, not believed.
All others, among them AlexNet and VGG, get Grad-CAM (Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391): the last maps that have
places, weighted by the mean gradient of the logit, negative values dropped. That is a linear approximation and is called by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from convatlas import zoo
from convatlas.bundle.look import Look, stage_modules
from convatlas.data.preprocessing import crop_boxes
from convatlas.errors import ConvAtlasError
from convatlas.zoo.heads.probe import ProbeNet

What = Literal["means", "deviations", "units"]
Method = Literal["class-activation map", "Grad-CAM"]

_FINE = 28  # places a side, at least, on which maps of several squares are laid side by side
_AGREES = 1e-4  # of the largest logit: within rounding, the mean over places is the logit


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one tapped cut gives to a logit."""

    cut: str
    what: What  # of its maps; "units" of a hidden layer have no places
    logit: float  # its share of the logit


@dataclass(frozen=True, kw_only=True, eq=False)
class ActivationMap:
    """Where in what the network sees of an image the score of one class comes from."""

    label: str
    method: Method
    logit: float
    bias: float  # with `centred` what the mean training image scores, else the classifier's own
    centred: bool  # whether map and parts are measured against the mean training image
    map: (
        np.ndarray
    )  # (h, w) float64; a class-activation map's mean plus `bias` is `logit`, Grad-CAM's is ≥ 0, in no unit
    parts: tuple[Part, ...] = ()  # of a probe: these and the bias add up to the logit
    share: float | None  # of the parts' sizes, how much the map accounts for, 0 to 1; None where there is no telling

    def on_grid(self, side: int) -> np.ndarray:
        """The map averaged over at most `side` places along its shorter side and as many to a length along the other, its mean kept."""
        share = min(1.0, side / min(self.map.shape))
        height, width = (max(1, round(share * length)) for length in self.map.shape)
        found = F.adaptive_avg_pool2d(torch.from_numpy(self.map)[None], (height, width))[0].numpy()
        return found + (self.map.mean() - found.mean())


def activation_maps(
    seen: Look,
    wanted: Sequence[Sequence[str]],
    usual: np.ndarray | None = None,
    *,
    sizes: Sequence[tuple[int, int]] = (),
) -> list[list[ActivationMap]]:
    """For each image that was looked at, the maps of its `wanted` classes.

    Where the network sees several squares of an image, `sizes` are the images' widths and heights, and a map is of the whole image.
    `usual` (d,) is the mean over the training images of the features that a probe reads, of a network with global pooling that of its last
    maps' means.

    Raises `ConvAtlasError` where no exact map exists and no stage of the network has more than one place.
    """
    names = seen.member.classes.names
    of_one = _of_probe if isinstance(seen.member.model, ProbeNet) else _of_network
    mean = None if usual is None else torch.from_numpy(usual).double()
    crops, found = seen.member.preprocessing.crops, list[list[ActivationMap]]()
    if crops > 1 and len(sizes) != len(wanted):
        raise ValueError(f"{len(wanted)} images of several squares each, and the sizes of {len(sizes)}")
    for i, labels in enumerate(wanted):
        classes = [names.index(label) for label in labels]
        squares = [of_one(seen, i * crops + j, classes, mean) for j in range(crops)]
        found.append(
            squares[0] if crops == 1 else [_side_by_side(maps, *sizes[i]) for maps in zip(*squares, strict=True)]
        )
    return found


def _of_probe(seen: Look, image: int, classes: Sequence[int], usual: Tensor | None) -> list[ActivationMap]:
    model, names = seen.member.model, seen.member.classes.names
    assert isinstance(model, ProbeNet)
    with torch.inference_mode():
        activations = {cut: value[image].cpu().double() for cut, value in seen.maps.items()}
        kinds: list[tuple[What, tuple[str, ...]]] = [
            ("means", model.config.means),
            ("deviations", model.config.deviations),
        ]
        blocks: list[tuple[str, What]] = [(cut, what) for what, cuts in kinds for cut in cuts]
        widths = [len(activations[cut]) for cut, _ in blocks]
        weights = model.fc.weight.cpu().double()[list(classes)].split(widths, dim=1)
        bias = model.fc.bias.cpu().double()[list(classes)]
        centre = torch.zeros(sum(widths), dtype=torch.float64) if usual is None else usual
        before = [weight @ mean for weight, mean in zip(weights, centre.split(widths), strict=True)]
        parts: list[list[Part]] = [[] for _ in classes]
        maps: list[Tensor] = []
        for (cut, what), weight, off in zip(blocks, weights, before, strict=True):
            values = activations[cut]
            read: What = "units" if values.ndim == 1 else what
            if values.ndim == 1:
                given = weight @ values - off
            else:
                placed = torch.einsum("kc,chw->khw", weight, values if what == "means" else _shares(values))
                placed = placed - off[:, None, None]
                given = placed.mean((1, 2))
                maps.append(placed)
            for row, logit in zip(parts, given.tolist(), strict=True):
                row.append(Part(cut=cut, what=read, logit=logit))
        bias = bias + torch.stack(before).sum(0)
    constant = bias.tolist()
    logits = [sum(part.logit for part in row) + own for row, own in zip(parts, constant, strict=True)]
    hidden = any(part.what == "units" for part in parts[0])
    drawn = _grad_cam(model, seen.images[image : image + 1], classes) if hidden else _added(maps).numpy()
    return [
        ActivationMap(
            label=names[index],
            method="Grad-CAM" if hidden else "class-activation map",
            logit=logit,
            bias=own,
            centred=usual is not None,
            map=map_,
            parts=tuple(row),
            share=_size(row, "units") / max(_size(row), 1e-12) if hidden else 1.0,
        )
        for index, logit, own, map_, row in zip(classes, logits, constant, drawn, parts, strict=True)
    ]


def _of_network(seen: Look, image: int, classes: Sequence[int], usual: Tensor | None) -> list[ActivationMap]:
    model, names, index = seen.member.model, seen.member.classes.names, list(classes)
    assert isinstance(model, zoo.ConvNet)
    with torch.inference_mode():
        state = _one(seen.state, image)
        logits = model.head(state)[0].cpu().double()
        try:
            sliding = seen.member.sliding.get_submodule("head")
            scores = sliding(state)[0].cpu().double()
        except ConvAtlasError:  # a classifier that has no such form
            scores = logits[:, None, None]
        off = float((scores.mean((1, 2)) - logits).abs().max() / logits.abs().max().clamp_min(1e-12))
    exact, centred = scores[0].numel() > 1 and off <= _AGREES, False
    bias = torch.zeros(len(index), dtype=torch.float64)
    if exact:
        last = model.get_submodule(model.classifiers[0])
        if isinstance(last, nn.Linear) and last.bias is not None:  # NiN's bias is inside a rectifier: part of the map
            bias = last.bias.detach().cpu().double()[index]
        if isinstance(last, nn.Linear) and usual is not None:
            centred = True
            bias = bias + last.weight.detach().cpu().double()[index] @ usual
        drawn = scores[index].numpy() - bias[:, None, None].numpy()
    else:
        drawn = _grad_cam(model, seen.images[image : image + 1], classes)
    return [
        ActivationMap(
            label=names[i],
            method="class-activation map" if exact else "Grad-CAM",
            logit=float(logits[i]),
            bias=float(own),
            centred=centred,
            map=map_,
            share=1.0 if exact else None,
        )
        for i, own, map_ in zip(index, bias, drawn, strict=True)
    ]


def _side_by_side(squares: Sequence[ActivationMap], width: int, height: int) -> ActivationMap:
    """The map of an image from those of its crops, averaged where these overlap; logits are means, as in use."""
    side = max(_FINE, *squares[0].map.shape)
    _, _, wide, high = crop_boxes(width, height, len(squares))[0]
    rows, columns = max(side, round(side * height / high)), max(side, round(side * width / wide))
    total, times = np.zeros((rows, columns)), np.zeros((rows, columns))
    for each, (left, top, _, _) in zip(squares, crop_boxes(columns, rows, len(squares)), strict=True):
        large = F.interpolate(
            torch.from_numpy(each.map)[None, None], (side, side), mode="bilinear", align_corners=False
        )
        total[top : top + side, left : left + side] += large[0, 0].numpy()
        times[top : top + side, left : left + side] += 1
    map_ = total / np.maximum(times, 1)
    if squares[0].method == "class-activation map":  # whose mean and the bias are the logit
        map_ += np.mean([each.map.mean() for each in squares]) - map_.mean()
    shares = [each.share for each in squares if each.share is not None]
    return replace(
        squares[0],
        logit=float(np.mean([each.logit for each in squares])),
        bias=float(np.mean([each.bias for each in squares])),
        map=map_,
        parts=tuple(
            replace(same[0], logit=float(np.mean([part.logit for part in same])))
            for same in zip(*(each.parts for each in squares), strict=True)
        ),
        share=float(np.mean(shares)) if shares else None,
    )


def _one(state: Any, image: int) -> Any:
    """One image of a batch of maps, or of a pair of them."""
    return state[image : image + 1] if isinstance(state, Tensor) else tuple(_one(part, image) for part in state)


def _shares(maps: Tensor) -> Tensor:
    """(c, h, w) whose mean over places is each map's standard deviation: squared distances from the mean, over the deviation."""
    centred = maps - maps.mean((1, 2), keepdim=True)
    deviation = centred.square().mean((1, 2), keepdim=True).sqrt()
    return torch.where(deviation > 0, centred.square() / deviation.clamp_min(1e-30), 0.0)


def _added(maps: Sequence[Tensor]) -> Tensor:
    """Maps (k, h, w) of several stages on the finest one's grid, summed. Where enlarging moves a mean (a rounding, or sides that are no
    multiples), the whole map is moved back."""
    height, width = max((map_.shape[1:] for map_ in maps), key=lambda shape: shape[0] * shape[1])
    total = torch.zeros(len(maps[0]), height, width, dtype=torch.float64)
    for map_ in maps:
        large = F.interpolate(map_[None], (height, width), mode="bilinear", align_corners=False)[0]
        total += large + (map_.mean((1, 2)) - large.mean((1, 2)))[:, None, None]
    return total


def _size(parts: Sequence[Part], what: str | None = None) -> float:
    return sum(abs(part.logit) for part in parts if what in (None, part.what))


def _grad_cam(model: nn.Module, x: Tensor, classes: Sequence[int]) -> np.ndarray:
    """(k, h, w) of these classes on the last stage that has more than one place."""
    module = _last_with_places(model, x)
    kept: list[Tensor] = []

    def cut_here(_: nn.Module, __: Any, output: Any) -> Any:
        maps = zoo.feature(output).detach().requires_grad_()
        kept.append(maps)
        return maps if isinstance(output, Tensor) else (*output[:-1], maps)

    hook = module.register_forward_hook(cut_here)
    with torch.enable_grad():
        try:
            logits = functional_call(model, _differentiable(model), (x.clone(),))[0]
        finally:
            hook.remove()
        drawn = []
        for index in classes:
            (gradient,) = torch.autograd.grad(logits[index], kept[0], retain_graph=True)
            weight = gradient[0].cpu().double().mean((1, 2), keepdim=True)
            drawn.append((weight * kept[0][0].detach().cpu().double()).sum(0).clamp_min(0))
    return torch.stack(drawn).numpy()


def _last_with_places(model: nn.Module, x: Tensor) -> nn.Module:
    """The last stage of the network, or of the part of it that a probe keeps, whose maps have more than one place."""
    shapes: dict[nn.Module, torch.Size] = {}

    def note(module: nn.Module, _: Any, output: Any) -> None:
        shapes[module] = zoo.feature(output).shape

    stages = [*stage_modules(model).values()]
    hooks = [module.register_forward_hook(note) for module in stages]
    try:
        with torch.inference_mode():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    for module in reversed(stages):
        if module in shapes and shapes[module][2:].numel() > 1:
            return module
    raise ConvAtlasError(
        "no stage of this network has maps of more than one place, so nothing can be said of where.",
        remedy="Take a network for larger images.",
    )


def _differentiable(model: nn.Module) -> dict[str, Tensor]:
    """The model's parameters as gradients can pass through: none asks for its own, and those made in inference mode are copied."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    return {name: t.detach().clone() if t.is_inference() else t.detach() for name, t in tensors.items()}
