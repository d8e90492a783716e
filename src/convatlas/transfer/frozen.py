"""Frozen is frozen: a network of which the first part stays as it is, bit for bit, whatever is done to the whole.

In PyTorch a part with `requires_grad=False` still changes: `.train()`, which every loop calls, lets its batch norms learn the new images'
statistics and turns its dropout on. Here the frozen part stays in evaluation mode, and after each epoch all its numbers are compared.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from convatlas.errors import ConvAtlasError
from convatlas.train.images import digest
from convatlas.zoo import ConvNet, iter_cuts, prefix, suffix
from convatlas.zoo.inference import apart, by_image

# What batch norms do in the part that trains: nothing, follow the images' statistics, or also learn scale and shift.
Norms = Literal["frozen", "stats", "train"]
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Tuned(nn.Module):
    """`trained(frozen(x))`, sharing weights with the network that was parted. Without a frozen part it takes what the frozen part made.

    Of an image of several squares, one under the other, it gives the mean.
    """

    def __init__(self, frozen: nn.Module | None, trained: nn.Module, norms: Norms) -> None:
        super().__init__()
        self.frozen = frozen or nn.Identity()
        self.trained = trained
        self.norms: Norms = norms
        self.frozen.requires_grad_(False)
        if norms != "train":
            for norm in self._norms_that_train():
                norm.requires_grad_(False)
        self.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        return by_image(self.trained(self.frozen(apart(x))), len(x))

    def train(self, mode: bool = True) -> Tuned:
        super().train(mode)
        self.frozen.eval()
        if self.norms == "frozen":
            for norm in self._norms_that_train():
                norm.eval()
        return self

    def _norms_that_train(self) -> list[nn.Module]:
        return [module for module in self.trained.modules() if isinstance(module, _NORMS)]


def parted(model: ConvNet, cut: str | None, norms: Norms = "train") -> Tuned:
    """`model` with everything before the stage or block `cut` frozen; nothing where `cut` is None or the first.

    Raises `ConvAtlasError` for a cut that the network does not have, or one after which nothing trains.
    """
    before = None if cut is None else cut_before(model, cut)
    if before is None:
        return Tuned(None, model, norms)
    return Tuned(prefix(model, before), suffix(model, before), norms)


def cut_before(model: ConvNet, cut: str) -> str | None:
    """The cut at which the stage or block `cut` begins; None for the network's first."""
    cuts = list(iter_cuts(model))
    inside = [i for i, other in enumerate(cuts) if other == cut or other.startswith(f"{cut}.")]
    if not inside:
        within = cut.split(".")[0]
        there = [name for name in cuts if name.startswith(f"{within}.") and name.count(".") == 1]
        there = there or [name for name in cuts if "." not in name and name not in ("stem", "head")]
        raise ConvAtlasError(f"the network has no stage or block {cut!r}.", remedy=f"It has {', '.join(there)}.")
    return cuts[inside[0] - 1] if inside[0] else None


class Audit:
    """A copy of a module's numbers, to find out whether one of them changes."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._kept = {key: x.detach().clone() for key, x in module.state_dict().items()}

    @property
    def tensors(self) -> int:
        """How many parameters and buffers are compared."""
        return len(self._kept)

    def sha256(self) -> str:
        """Of the copy, for whoever goes on with a training: frozen then must be frozen now."""
        return digest(*self._kept.values())

    def check(self) -> None:
        """Raises `RuntimeError`, naming the first, if any parameter or buffer differs in a single bit from what it was."""
        for key, x in self._module.state_dict().items():
            if not torch.equal(_bits(x), _bits(self._kept[key])):
                raise RuntimeError(f"{key} is frozen and has changed")


def _bits(x: Tensor) -> Tensor:
    """The tensor as bytes, so that NaN equals itself and -0 differs from 0."""
    return x.detach().contiguous().flatten().view(torch.uint8) if x.numel() else x
