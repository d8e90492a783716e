"""One process or many: what a training step asks of the others, so that the loop reads as if it were alone.

Several processes are Lightning Fabric's (`ddp`), which starts them, or finds itself started by torchrun or a cluster, and adds up
gradients while they are computed (Li et al. PyTorch Distributed. 2020. https://arxiv.org/abs/2006.15704). It is imported when there is
more than one process, not before. Each process works on its own part of every batch. Running statistics, as batch norm keeps them, become
the mean of what the processes would have kept, after every step; gradients and parameters are those of one process that accumulates the
parts.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from convatlas.errors import ConvAtlasError

Answer = TypeVar("Answer")


class Alone:
    """One process: nobody to ask."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.count = 1
        self.rank = 0

    def together(self, objective: nn.Module) -> nn.Module:
        """The module whose gradients are those of all processes once they have been asked for with `backward`."""
        return objective

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def apart(self, objective: nn.Module, apart: bool) -> AbstractContextManager[Any]:
        """While this lasts and `apart` is true, gradients are added up in this process alone."""
        return contextlib.nullcontext()

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Makes each of `tensors` the mean of what the processes have, in place."""

    def all(self, answer: Answer) -> list[Answer]:
        """What each process answers, in their order."""
        return [answer]


class Several(Alone):
    """Processes of Fabric's `ddp`: made in each of them, after they were started."""

    def __init__(self, fabric: Any) -> None:
        super().__init__(fabric.device)
        self._fabric = fabric
        self.count = fabric.world_size
        self.rank = fabric.global_rank

    def together(self, objective: nn.Module) -> nn.Module:
        return self._fabric.setup_module(objective, move_to_device=False)

    def backward(self, loss: Tensor) -> None:
        with _all_there():
            self._fabric.backward(loss)

    def apart(self, objective: nn.Module, apart: bool) -> AbstractContextManager[Any]:
        return self._fabric.no_backward_sync(objective, enabled=apart)

    def average(self, tensors: Sequence[Tensor]) -> None:
        flat = torch.cat([x.detach().flatten().double() for x in tensors])  # in one message
        with _all_there():
            torch.distributed.all_reduce(flat)
        for x, mean in zip(tensors, flat.div_(self.count).split([x.numel() for x in tensors]), strict=True):
            x.copy_(mean.view_as(x))

    def all(self, answer: Answer) -> list[Answer]:
        answers: list[Any] = [None] * self.count
        with _all_there():
            torch.distributed.all_gather_object(answers, answer)
        return answers


@contextlib.contextmanager
def _all_there() -> Iterator[None]:
    """Says so where another process has ended."""
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in ("gloo", "NCCL", "Connection")):
            raise
        raise ConvAtlasError(
            "another process of this training has ended;",
            remedy="its own message says why. The same command goes on from the last checkpoint.",
        ) from error


def processes(count: int, device: str, *, nodes: int = 1, resting: bool = False) -> Alone:
    """`count` processes on each of `nodes` machines, this one among them: each runs the command that this process runs.

    Started here, or by whoever set the environment (torchrun, Slurm). On `cuda` each has a GPU of its own. `resting` says that parts of
    the network are left out in some steps, as drop-path does. Raises `ConvAtlasError` for a number that means nothing and for devices
    that several processes cannot share.
    """
    if count < 1 or nodes < 1:
        raise ConvAtlasError(f"{count} processes on {nodes} machines;", remedy="give at least one of each.")
    if count == nodes == 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return Alone(device)
    if device == "mps":
        raise ConvAtlasError("several processes cannot share Apple's GPU;", remedy="leave out --processes.")
    if device == "cuda" and count > torch.cuda.device_count():
        raise ConvAtlasError(
            f"{count} processes need as many GPUs, and there are {torch.cuda.device_count()};",
            remedy="give fewer --processes.",
        )
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    for chatty in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # more than two numbers are added up in an order that depends on where in a bucket they stand, and buckets are made anew after a run's
    # first step, whichever that is, unless parts of the network may rest
    several = int(os.environ.get("WORLD_SIZE", count * nodes)) > 2
    warnings.filterwarnings("ignore", "find_unused_parameters=True was specified")
    strategy = DDPStrategy(find_unused_parameters=resting or several)
    fabric = Fabric(accelerator=device, devices=count, num_nodes=nodes, strategy=strategy)
    fabric.launch()
    return Several(fabric)


def leads() -> bool:
    """Whether this process speaks for all that there are: the first, or the only one."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def led(together: Alone, work: Callable[[], Answer]) -> Answer | None:
    """`work` done by the first process alone, while the others wait; None in those. Where it fails there, all of them end."""
    answer: Answer | None = None
    failed: Exception | None = None
    if together.rank == 0:
        try:
            answer = work()
        except Exception as error:
            failed = error
    if failed:
        together.all(True)
        raise failed
    if any(together.all(False)):
        raise SystemExit(1)  # the first process says why
    return answer
