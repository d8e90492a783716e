"""How like the images are to those that the network was trained on, from its weights alone.

The training images are not at hand, but batch norms keep the mean and variance of every channel before them as it was over these. So
images are run as far as the first norm of each stage, and each channel's mean and variance compared: with m the shift and s the ratio of
standard deviations, in units of the source's own, m² + (s − 1)² is the squared Fréchet distance between the two as normal
distributions (Dowson and Landau, 1982); the root of its mean over channels is the stage's distance. Weights whose norms were folded
into convolutions, and networks without norms, keep no such record.

It compares what images look like to the network, not what is asked of them: photos of a narrow subject lie further away than a mixture of
subjects, and aerial views no further than flowers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convatlas.zoo.convnet import ConvNet
from convatlas.zoo.inference import CPU_BATCH, for_inference

IMAGES = 32  # are enough: distances of other draws of 32 differ by a few hundredths
# With MobileNetV1-0.75 and the embedded backbone, images of their own sources stay below 0.2; handwritten digits lie beyond 0.5.
NEAR, FAR = 0.2, 0.5


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """How far the images are from the source's before one stage."""

    stage: str
    distance: float  # in standard deviations of the source's channels; 0 for the same
    shift: float  # root mean square of the channels' shifts alone
    spread: float  # median ratio of the channels' standard deviations: below 1, images vary less than the source's

    @property
    def words(self) -> str:
        """Near to, some way from, or far from the source's images."""
        return "near to" if self.distance < NEAR else "some way from" if self.distance < FAR else "far from"


def likeness(model: ConvNet, images: Tensor) -> tuple[Likeness, ...]:
    """A row for each stage that has a norm with a record; `images` (n, c, h, w) as the network expects them, on its device.

    Empty where the weights have no record of their source.
    """
    norms = _recording(model)
    if not norms:
        return ()
    fast = for_inference(model.stages, (1, *images.shape[1:]))
    sums: dict[str, list[Tensor]] = {stage: [] for stage in norms}
    hooks = [fast.get_submodule(name).register_forward_pre_hook(_watch(sums[stage])) for stage, name in norms.items()]
    with torch.inference_mode():
        for start in range(0, len(images), CPU_BATCH):
            fast(images[start : start + CPU_BATCH])
    for hook in hooks:
        hook.remove()
    rows = []
    for stage, name in norms.items():
        norm = model.stages.get_submodule(name)
        assert isinstance(norm, nn.BatchNorm2d)
        folded = not isinstance(fast.get_submodule(name), nn.BatchNorm2d)
        rows.append(_row(stage, norm, sums[stage], len(images), folded))
    return tuple(rows)


def _recording(model: ConvNet) -> dict[str, str]:
    """Each stage's first norm that has seen images, by its path in `model.stages`; the stem counts to the first stage."""
    found: dict[str, str] = {}
    first = next(name for name, _ in model.stages.named_children() if name != "stem")
    for name, module in model.stages.named_modules():
        if isinstance(module, nn.BatchNorm2d) and _has_record(module):
            stage = name.partition(".")[0]
            found.setdefault(first if stage == "stem" else stage, name)
    return found


def _has_record(norm: nn.BatchNorm2d) -> bool:
    """Whether the running statistics are of images: new norms, and those folded elsewhere, have the same for every channel."""
    mean, variance = norm.running_mean, norm.running_var
    return mean is not None and variance is not None and bool((mean != 0).any()) and bool(variance.std() > 0)


def _watch(sums: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """A hook that adds up the first two moments of each channel, an image counting as one."""

    def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].float()
        variance, mean = torch.var_mean(values, dim=(0, 2, 3), correction=0)
        sums.append(torch.stack([mean, variance + mean**2]).cpu().double() * len(values))

    return before


def _row(stage: str, norm: nn.BatchNorm2d, sums: list[Tensor], count: int, folded: bool) -> Likeness:
    """The comparison; a folded norm has already been applied to what was seen, so it is undone."""
    assert norm.running_mean is not None and norm.running_var is not None
    mean, square = torch.stack(sums).sum(dim=0) / count
    variance = (square - mean**2).clamp(min=0)
    before = norm.running_var.cpu().double() + norm.eps
    if folded:
        scale, offset = norm.weight.detach().cpu().double(), norm.bias.detach().cpu().double()
        alive = scale.abs() > 1e-6  # a channel that is multiplied by nothing tells nothing
        mean, variance, scale, offset, before = (x[alive] for x in (mean, variance, scale, offset, before))
        shift, ratio = (mean - offset) / scale, variance / scale**2 + norm.eps / before
    else:
        shift = (mean - norm.running_mean.cpu().double()) / before.sqrt()
        ratio = (variance + norm.eps) / before
    root = ratio.sqrt()
    return Likeness(
        stage=stage,
        distance=float((shift**2 + (root - 1) ** 2).mean().sqrt()),
        shift=float((shift**2).mean().sqrt()),
        spread=float(root.median()),
    )
