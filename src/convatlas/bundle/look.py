"""One pass of a model's network over a few images, kept for everything that explains an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convatlas import zoo
from convatlas.bundle.member import Member
from convatlas.zoo.heads.probe import ProbeNet, pooled
from convatlas.zoo.inference import apart, by_image, normalised

TOGETHER = 8  # squares of one pass


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """What the network computed of n images on its way to the logits, of each of their squares where it sees several."""

    member: Member
    images: Tensor  # (n · crops, c, size, size), standardised
    maps: dict[str, Tensor]  # by cut, (n · crops, ...): of a probe all that it taps, of a whole network its last stage
    state: Any  # of a whole network, what its head reads: the last maps, or a pair of them

    def features(self, means: tuple[str, ...], deviations: tuple[str, ...]) -> np.ndarray:
        """(n, d) float32: the means, then the standard deviations, of the maps at these cuts. A cut not passed yet costs another pass."""
        with torch.inference_mode():
            found = self.maps
            if not {*means, *deviations} <= set(found):
                assert isinstance(self.member.model, zoo.ConvNet)
                found = zoo.taps(self.member.model, {*means, *deviations})(self.images)
            both = {cut: pooled(found[cut]) for cut in {*means, *deviations}}
            read = [*(both[cut][0] for cut in means), *(both[cut][1] for cut in deviations)]
            return by_image(torch.cat(read, dim=1), len(self)).float().cpu().numpy()

    def __len__(self) -> int:
        """How many images were looked at."""
        return len(self.images) // self.member.preprocessing.crops


def stage_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The network's stages in order, by name; of a probe those that it keeps. Each returns its maps, or a pair whose last they are."""
    if isinstance(model, ProbeNet):  # taps.segments.4.stage5
        parts = {path: module for path, module in model.taps.named_modules() if path.count(".") == 2}
        return {path.rpartition(".")[2]: module for path, module in parts.items() if ".stage" in path}
    assert isinstance(model, zoo.ConvNet)
    return {name: model.stages.get_submodule(name) for name in zoo.stage_names(model)}


@torch.inference_mode()
def look(member: Member, pixels: np.ndarray) -> Look:
    """Runs images (n, crops · size, size, channels) uint8, as the network is shown them, up to its classifier."""
    p, model = member.preprocessing, member.model
    images = apart(normalised(torch.from_numpy(pixels).to(member.device), p.mean, p.std))
    if isinstance(model, ProbeNet):
        return Look(member=member, images=images, maps=model.taps(images), state=None)
    assert isinstance(model, zoo.ConvNet)
    state = model.stages(images)
    return Look(member=member, images=images, maps={zoo.stage_names(model)[-1]: zoo.feature(state)}, state=state)
