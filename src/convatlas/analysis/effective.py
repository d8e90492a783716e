"""The effective receptive field (Luo et al., 2016, https://arxiv.org/abs/1701.04128): how much each pixel matters, not whether it can.

A unit's gradient with respect to the image is large in the middle of its receptive field and fades towards the border, much as a Gaussian
does; most of what a unit can see hardly moves it. The map here is the mean of |∂y/∂x| over random images and channels of the unit in
the middle of a module's output, summed over the image's channels; its *extent* is the side of the smallest square (interval, cube)
around the field's middle that holds 95.45 % of it, which is two standard deviations of a Gaussian to either side.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from convatlas.analysis.receptive import Field, Unknown, receptive_fields
from convatlas.analysis.record import record
from convatlas.analysis.tape import Tape
from convatlas.errors import ConvAtlasError

MASS = 0.9545


@dataclass(frozen=True, eq=False)
class EffectiveField:
    """Of the unit in the middle of what a module makes."""

    path: str
    heat: Tensor  # of the image's shape without channels: each pixel's share of the gradient, 1 in all
    middle: tuple[float, ...]  # of the unit's field, in pixels
    unit: tuple[int, ...]
    theoretical: Field | Unknown  # without gates: what the unit could see through windows alone

    @property
    def extent(self) -> int:
        """Pixels across the smallest square around the middle that holds 95.45 % of the gradient; it may reach beyond the image."""
        return self.within(MASS)

    def within(self, share: float) -> int:
        """Pixels across the smallest square around the middle that holds this share of the gradient."""
        away = torch.zeros_like(self.heat)
        for axis, middle in enumerate(self.middle):
            places = (torch.arange(self.heat.shape[axis], dtype=self.heat.dtype) - middle).abs()
            away = torch.maximum(away, places.reshape([-1 if dim == axis else 1 for dim in range(self.heat.dim())]))
        order = away.flatten().argsort()
        held = self.heat.flatten()[order].cumsum(0)
        last = min(int((held < share * held[-1]).sum()), len(held) - 1)
        return int(2 * away.flatten()[order[last]].item() + 1)

    def box(self) -> tuple[tuple[int, int], ...] | None:
        """The first and the last pixel of the theoretical field along each axis; None if it is unknown."""
        if isinstance(self.theoretical, Unknown):
            return None
        return tuple(interval.at(unit) for interval, unit in zip(self.theoretical.largest, self.unit, strict=True))


def effective_field(
    model: nn.Module,
    input_size: Sequence[int],
    path: str,
    *,
    images: int | Tensor = 8,
    channels: int = 4,
    seed: int = 0,
) -> EffectiveField:
    """The effective receptive field of the module at `path`: see `effective_fields`."""
    return effective_fields(model, input_size, [path], images=images, channels=channels, seed=seed)[path]


def effective_fields(
    model: nn.Module,
    input_size: Sequence[int],
    paths: Sequence[str],
    *,
    images: int | Tensor = 8,
    channels: int = 4,
    seed: int = 0,
) -> dict[str, EffectiveField]:
    """The effective receptive fields of several modules, by path, from one forward pass in evaluation mode.

    `input_size` is (channels, height, width), or as many sides as the images have; `images` are so many of normal noise, or your own. For
    each image, `channels` of the unit's are drawn (all, if it has no more), which takes as many backward passes for each path.
    A module that is called several times is looked at in its last call. The model is left as it was.
    """
    _check(model, paths)
    generator = torch.Generator().manual_seed(seed)
    x = _images(model, input_size, images, generator)
    with torch.random.fork_rng(devices=[]):
        tape = record(model, x[:1])
    fields = receptive_fields(tape, gates=False)
    found: dict[str, EffectiveField] = {}
    with _run(model, x, paths) as (leaf, outputs):
        for path in dict.fromkeys(paths):
            if path not in outputs:
                raise ConvAtlasError(f"the module {path!r} does not run, or makes no tensor that depends on the image.")
            output = outputs[path]
            theoretical = fields.get(_last_output(tape, path), Unknown("it does not depend on the image"))
            dims = _spatial_dims(output, x, theoretical, path)
            unit = tuple(output.shape[dim] // 2 for dim in dims)
            heat = _heat(leaf, output, dims, unit, channels, generator)
            if not float(heat.sum()) > 0:
                raise ConvAtlasError(
                    f"the gradient at {path!r} is zero or not a number on all images.",
                    remedy="Look at an earlier module, or give more images.",
                )
            middle = _middle(theoretical, unit, [output.shape[dim] for dim in dims], x.shape[2:])
            found[path] = EffectiveField(path, heat / heat.sum(), middle, unit, theoretical)
    return found


def _check(model: nn.Module, paths: Sequence[str]) -> None:
    modules = dict(model.named_modules())
    for path in paths:
        if path not in modules:
            near = difflib.get_close_matches(path, modules, n=1)
            raise ConvAtlasError(f"there is no module {path!r}" + (f"; did you mean {near[0]!r}?" if near else "."))
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.device.type == "meta":
            raise ConvAtlasError(
                f"{name} has no values (it is a meta tensor).", remedy="Load or initialise the weights."
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ConvAtlasError(f"{name} holds values that are infinite or not numbers.", remedy="Load sound weights.")


def _images(model: nn.Module, input_size: Sequence[int], images: int | Tensor, generator: torch.Generator) -> Tensor:
    if len(input_size) < 2 or (isinstance(images, int) and images < 1):
        raise ConvAtlasError(
            f"an input size of {tuple(input_size)} and {images} images leave nothing to look at.",
            remedy="Give (channels, height, width) and one image or more.",
        )
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    if isinstance(images, Tensor):
        if tuple(images.shape[1:]) != tuple(input_size):
            raise ConvAtlasError(
                f"images are {tuple(images.shape[1:])}, not {tuple(input_size)} as the input size says."
            )
        return images.detach().to(like.device, like.dtype)
    return torch.randn(images, *input_size, generator=generator).to(like.device, like.dtype)


@contextmanager
def _run(model: nn.Module, x: Tensor, paths: Sequence[str]) -> Iterator[tuple[Tensor, Mapping[str, Tensor]]]:
    """The image, of which gradients can be taken, and the outputs at the paths. Weights and buffers are lent to the model as copies that
    ask for no gradient, so that nothing of its own is touched."""
    leaf = x.clone().requires_grad_()
    outputs: dict[str, Tensor] = {}

    def keep(path: str, output: object) -> None:
        tensors = [output] if isinstance(output, Tensor) else output if isinstance(output, list | tuple) else []
        kept = [tensor for tensor in tensors if isinstance(tensor, Tensor) and tensor.requires_grad]
        if kept:
            outputs[path] = kept[-1] * 1  # an operation in place may come after

    hooks = [
        model.get_submodule(path).register_forward_hook(lambda _, __, output, path=path: keep(path, output))
        for path in dict.fromkeys(paths)
    ]
    training = [module for module in model.modules() if module.training]
    lent = {name: p.detach() for name, p in model.named_parameters()}
    lent |= {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            functional_call(model, lent, (leaf * 1,))
            yield leaf, outputs
    finally:
        for hook in hooks:
            hook.remove()
        for module in training:
            module.training = True


def _last_output(tape: Tape, path: str) -> int:
    outputs = [call.outputs for call in tape.calls if call.path == path and call.outputs]
    return outputs[-1][-1].number if outputs else -1


def _spatial_dims(output: Tensor, x: Tensor, field: Field | Unknown, path: str) -> tuple[int, ...]:
    """Which dimensions of the output are the image's axes: as its field says, or else those of a tensor laid out as the image is."""
    if isinstance(field, Field) and None not in field.dims:
        return tuple(dim for dim in field.dims if dim is not None)
    if output.dim() == x.dim():
        return tuple(range(2, x.dim()))
    raise ConvAtlasError(
        f"the output of {path!r}, {tuple(output.shape)}, has no places.", remedy="Name a module that makes maps."
    )


def _heat(
    leaf: Tensor, output: Tensor, dims: Sequence[int], unit: Sequence[int], channels: int, generator: torch.Generator
) -> Tensor:
    """Σ |∂y/∂x| over images, drawn channels of the unit, and channels of the image."""
    for dim, place in zip(dims, unit, strict=True):
        output = output.narrow(dim, place, 1)
    units = output.reshape(len(leaf), -1)  # images × channels of the unit in the middle
    count = min(channels, units.shape[1])
    drawn = torch.stack([torch.randperm(units.shape[1], generator=generator)[:count] for _ in range(len(leaf))])
    heat = torch.zeros(leaf.shape[2:], dtype=torch.float64)
    for column in drawn.to(units.device).T:
        chosen = units.gather(1, column[:, None]).sum()  # of each image its own channel: images do not meet
        (gradient,) = torch.autograd.grad(chosen, leaf, retain_graph=True)
        heat += gradient.abs().sum((0, 1)).double().cpu()
    return heat


def _middle(
    field: Field | Unknown, unit: Sequence[int], sides: Sequence[int], image: Sequence[int]
) -> tuple[float, ...]:
    """Of what the unit can see; where that is unknown, or the whole image, of the unit's place."""
    middle: list[float] = []
    for axis, (place, side, length) in enumerate(zip(unit, sides, image, strict=True)):
        interval = None if isinstance(field, Unknown) else field.largest[axis]
        if interval is None or interval.fixed:
            middle.append((place + 0.5) * length / side - 0.5)
        else:
            low, high = interval.at(place)
            middle.append((low + high) / 2)
    return tuple(middle)
