"""AlexNet as it was trained: half the maps on each of two GPUs, which show each other their maps before four layers.

One half is a module like any other, and what the other GPU sends are further inputs to it. So the analyser says what each GPU has to
hold for a training step, and the sizes of those inputs are what goes over the bus: once forward as maps and once backward as their
gradients, in both directions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convatlas import zoo
from convatlas.analysis.memory import TrainingMemory, training_memory
from convatlas.analysis.tape import Tape
from convatlas.studies.layers import analysed, tape_of

WHOLE = "alexnet"
EXCHANGED = ("CONV3", "FC6", "FC7", "FC8")  # the inputs of `Half` after the image, in this order
BATCH = 128
CARD = 3 * 2**30  # bytes of a GTX 580


class Half(nn.Module):
    """One GPU's part of AlexNet, half of the classes' scores included."""

    def __init__(self, maps: tuple[int, ...], *, units: int = 4096, classes: int = 1000) -> None:
        super().__init__()
        m1, m2, m3, m4, m5 = (number // 2 for number in maps)
        self.conv1 = nn.Conv2d(3, m1, 11, 4)
        self.conv2 = nn.Conv2d(m1, m2, 5, padding=2)
        self.conv3 = nn.Conv2d(2 * m2, m3, 3, padding=1)  # of both halves
        self.conv4 = nn.Conv2d(m3, m4, 3, padding=1)
        self.conv5 = nn.Conv2d(m4, m5, 3, padding=1)
        self.fc6 = nn.Linear(2 * m5 * 6 * 6, units // 2)
        self.fc7 = nn.Linear(units, units // 2)
        self.fc8 = nn.Linear(units, classes // 2)
        self.norm = nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)
        self.pool = nn.MaxPool2d(3, 2)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(0.5)

    def forward(self, image: Tensor, *theirs: Tensor) -> Tensor:
        """This half's scores, given the other half's maps and units before each layer that reads both."""
        told = iter(theirs)
        return self.scores(image, lambda mine: next(told))

    def scores(self, image: Tensor, shown: Callable[[Tensor], Tensor]) -> Tensor:
        """The same, with `shown` to show the other half this one's maps or units and to get that one's."""
        x = self.pool(self.norm(self.relu(self.conv1(image))))
        x = self.pool(self.norm(self.relu(self.conv2(x))))
        x = self.relu(self.conv3(torch.cat((x, shown(x)), 1)))
        x = self.pool(self.relu(self.conv5(self.relu(self.conv4(x))))).flatten(1)
        x = self.dropout(self.relu(self.fc6(torch.cat((x, shown(x)), 1))))
        x = self.dropout(self.relu(self.fc7(torch.cat((x, shown(x)), 1))))
        return self.fc8(torch.cat((x, shown(x)), 1))


@dataclass(frozen=True, kw_only=True)
class TwoGPUs:
    """What two GPUs hold and say to each other in a training step."""

    tape: Tape  # of one half, on one image
    parameters: int  # of one half
    memory: TrainingMemory  # of one half, for the whole batch
    exchanged: dict[
        str, int
    ]  # bytes for one image that each GPU sends before a layer, forward; as many come back as gradients
    batch: int

    @property
    def sent(self) -> int:
        """Bytes that each GPU sends for a batch, forward and backward."""
        return 2 * self.batch * sum(self.exchanged.values())


def two_gpus(batch: int = BATCH) -> TwoGPUs:
    """The paper's network and its sizes, cut in halves."""
    side = zoo.native(WHOLE)[0][1]
    maps = zoo.config_of(WHOLE).maps
    with torch.device("meta"):
        half = Half(maps)
    sizes = ((3, side, side), (maps[1] // 2, 13, 13), (maps[4] // 2 * 6 * 6,), (2048,), (2048,))
    tape = tape_of(half, *sizes)
    training = tape_of(half, *sizes, batch=batch, training=True)
    return TwoGPUs(
        tape=tape,
        parameters=sum(value.elements for value in tape.state.values()),
        memory=training_memory(training, optimizer="momentum"),
        exchanged=dict(zip(EXCHANGED, (value.bytes_ for value in tape.inputs[1:]), strict=True)),
        batch=batch,
    )


def on_one_gpu(name: str) -> TrainingMemory:
    """The same step with all of a network on one GPU."""
    return analysed(name, BATCH).training[0].memory
