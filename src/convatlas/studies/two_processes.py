"""AlexNet trained as it was, by two processes with half of the maps each, beside the same network in one.

Before CONV3 and the three fully connected layers each process shows the other its maps or units; on the way back it gets the gradient that
the other found for them. Nothing else goes between them: response normalisation stays within a half, as on the two GPUs of the paper
(section 3.5), where a network on one device normalises across the cut between the halves. So it is compared with that network cut there.
"""

from __future__ import annotations

import copy
import os
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn import functional as F

from convatlas import zoo
from convatlas.studies.two_gpus import WHOLE, Half
from convatlas.zoo.convnet import ConvNet

_LAYERS = {  # of a half: where it is in the whole, whether it reads both halves, whether its inputs come in maps of 6×6
    "conv1": ("stages.stage1.conv1", False),
    "conv2": ("stages.stage2.conv2", False),
    "conv3": ("stages.stage3.conv3", True),
    "conv4": ("stages.stage3.conv4", False),
    "conv5": ("stages.stage3.conv5", False),
    "fc6": ("head.fc6.fc", True),
    "fc7": ("head.fc7.fc", True),
    "fc8": ("head.fc8", True),
}


@dataclass(frozen=True, kw_only=True)
class TwoProcesses:
    """How far the two were from the one."""

    steps: int  # of SGD with momentum, all three from the same weights on the same images
    images: int  # of a batch
    dtype: str
    losses: tuple[float, ...]  # of the whole, a number a step
    loss_difference: float  # the greatest of any step
    weight_difference: float  # the greatest after the last step, of any weight
    gradient_difference: float  # the greatest in the first step, over the greatest gradient of the layer
    bytes_sent: int  # by each process in a step, forward and backward
    norm_across: float  # greatest difference of a logit if the whole normalises across the cut, over the greatest logit

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def two_processes(
    *, steps: int = 3, images: int = 4, classes: int = 10, dtype: torch.dtype = torch.float64, seed: int = 0
) -> TwoProcesses:
    """Trains AlexNet by two processes that this one starts, and by this one, on the same random images; without dropout, whose draws
    would differ."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        crossing = zoo.build(WHOLE, num_classes=classes).to(dtype)
        x = torch.randn(images, *zoo.native(WHOLE)[0], dtype=dtype)
        labels = torch.randint(classes, (images,))
    whole = without_dropout(norm_within_halves(crossing))
    before = {name: p.detach().clone() for name, p in whole.named_parameters()}
    with torch.no_grad():
        logits, across = whole.eval()(x), crossing.eval()(x)
    losses, gradients = _trained(whole, whole, x, labels, steps)
    with tempfile.TemporaryDirectory() as folder:
        save_file({**before, "x": x, "labels": labels}, Path(folder, "given.safetensors"))
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        spawn(_process, (folder, port, steps), nprocs=2)
        told = [load_file(Path(folder, f"{rank}.safetensors")) for rank in (0, 1)]
    after = dict(whole.named_parameters())
    weight = gradient = 0.0
    for rank, found in enumerate(told):
        for name, x_ in half_of(after, rank).items():
            weight = max(weight, float((found[name] - x_).abs().max()))
        for name, x_ in half_of(gradients, rank).items():
            gradient = max(gradient, float((found[f"gradient.{name}"] - x_).abs().max() / x_.abs().max()))
    return TwoProcesses(
        steps=steps,
        images=images,
        dtype=str(dtype).removeprefix("torch."),
        losses=tuple(losses),
        loss_difference=max(
            abs(a - b) for found in told for a, b in zip(losses, found["losses"].tolist(), strict=True)
        ),
        weight_difference=weight,
        gradient_difference=gradient,
        bytes_sent=int(told[0]["sent"]) // steps,
        norm_across=float((logits - across).abs().max() / logits.abs().max()),
    )


def norm_within_halves(model: ConvNet) -> ConvNet:
    """A copy whose response normalisation does not look from the maps of one half to those of the other."""
    model = copy.deepcopy(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.LocalResponseNorm):
            model.set_submodule(name, _Apart(module))
    return model


def without_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


class _Apart(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.norm(half) for half in x.chunk(2, 1)], 1)


def half_of(whole: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """The parameters of one half: its rows of each layer, and where it reads both halves, its own inputs first."""
    found: dict[str, Tensor] = {}
    for layer, (path, both) in _LAYERS.items():
        weight = whole[f"{path}.weight"].detach().chunk(2)[rank]
        if both:
            mine_first = weight.chunk(2, 1)
            weight = torch.cat((mine_first[rank], mine_first[1 - rank]), 1)
        found[f"{layer}.weight"] = weight.contiguous()
        found[f"{layer}.bias"] = whole[f"{path}.bias"].detach().chunk(2)[rank].contiguous()
    return found


def _process(rank: int, folder: str, port: int, steps: int) -> None:
    """One half, trained; what it found goes into a file."""
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    given = load_file(Path(folder, "given.safetensors"))
    x, labels = given.pop("x"), given.pop("labels")
    classes = len(given["head.fc8.bias"])
    half = Half(zoo.config_of(WHOLE).maps, classes=classes).to(x.dtype)
    half.load_state_dict(half_of(given, rank))
    without_dropout(half)
    line = _Line(rank)

    def scores(image: Tensor) -> Tensor:
        mine = half.scores(image, line.shown)
        theirs = line.swapped(mine.detach())  # each process has the loss of all scores; its gradient ends at its own
        return torch.cat((mine, theirs) if rank == 0 else (theirs, mine), 1)

    losses, gradients = _trained(half, scores, x, labels, steps)
    told = {name: p.detach().contiguous() for name, p in half.named_parameters()}
    told |= {f"gradient.{name}": g.contiguous() for name, g in gradients.items()}
    told |= {"losses": torch.tensor(losses, dtype=torch.float64), "sent": torch.tensor(line.sent)}
    save_file(told, Path(folder, f"{rank}.safetensors"))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def _trained(
    module: nn.Module, scores: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor, steps: int
) -> tuple[list[float], dict[str, Tensor]]:
    """The losses of some steps, and the gradients of the first."""
    optim = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    losses: list[float] = []
    first: dict[str, Tensor] = {}
    for _ in range(steps):
        optim.zero_grad()
        loss = F.cross_entropy(scores(x), labels)
        loss.backward()
        first = first or {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
        optim.step()
        losses.append(loss.item())
    return losses, first


class _Line:
    """What goes between the two processes."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.sent = 0  # bytes

    def swapped(self, mine: Tensor) -> Tensor:
        """The other's tensor for this one's, of the same size."""
        both = [torch.empty_like(mine), torch.empty_like(mine)]
        torch.distributed.all_gather(both, mine.contiguous())
        self.sent += mine.nbytes
        return both[1 - self.rank]

    def shown(self, mine: Tensor) -> Tensor:
        """The same, with a gradient that goes back to where it came from."""
        return _Shown.apply(mine, self)


class _Shown(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mine: Tensor, line: _Line) -> Tensor:
        ctx.line = line
        return line.swapped(mine)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride] - as torch documents it
        return ctx.line.swapped(gradient), None
