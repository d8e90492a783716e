"""What changes while a model is trained, and so what a checkpoint holds: weights, their average, the optimiser, where in the run it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from convatlas.errors import ConvAtlasError
from convatlas.train.config import TrainConfig
from convatlas.train.optim import averaging, constrain, for_batch, learning_rate, optimiser, set_rate
from convatlas.train.run import Run


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one pass over the training images did."""

    epoch: int  # counted from 1
    loss: float  # mean over the epoch's batches, with augmentation and label smoothing in it
    lr: float  # of its last step
    seconds: float  # without the evaluation
    top1: float  # share of its images whose highest logit was their label, as they were seen: augmented, the weights still changing
    held_out: float | None  # top-1 accuracy on the held-out images after it


class Learner:
    """One model's training, `steps` steps an epoch of `batch_size` images each."""

    def __init__(self, model: nn.Module, config: TrainConfig, *, steps: int, batch_size: int, micro_batch: int) -> None:
        self.model = model
        self.config = config
        self.steps = steps
        self._optim = for_batch(config.optim, batch_size)
        self.average: AveragedModel | None = None
        if config.ema:
            self.average = AveragedModel(model, multi_avg_fn=averaging(config.ema), use_buffers=True)
        self.optim = optimiser(model, config.optim)
        self.scaler = self._scaler()
        self.micro_batch = micro_batch  # smaller than asked for once memory did not suffice
        self.slowed = 0  # times that it began an epoch again at a tenth of the learning rate
        self.step = 0
        self.loss = 0.0  # sum over the steps of the epoch so far
        self.correct = 0  # images of the epoch so far
        self.history: list[Epoch] = []
        self.best: dict[str, Tensor] = {}  # the result after the best epoch, where patience asks for it
        self._began: tuple[dict[str, Tensor], dict[str, Any]] | None = None  # the epoch, where it may begin again

    @property
    def result(self) -> nn.Module:
        """The model whose accuracy counts."""
        return self.average or self.model

    @property
    def lr(self) -> float:
        """Of the next step."""
        rate = learning_rate(self._optim, self.step / self.steps, self.config.epochs, self._watched)
        return rate / 10**self.slowed

    @property
    def done(self) -> bool:
        """All epochs are over, or patience is."""
        since = len(self.history) - best_epoch(self.history)
        impatient = 0 < self.config.patience <= since and self.step == len(self.history) * self.steps
        return self.step >= self.config.epochs * self.steps or impatient

    @property
    def _watched(self) -> list[float]:
        """The accuracies that a plateau of the learning rate looks at."""
        if self.config.optim.watch == "training":
            return [epoch.top1 for epoch in self.history]
        return [epoch.held_out for epoch in self.history if epoch.held_out is not None]

    def learn(self) -> None:
        """One step along the gradients, which are finite unless float16 overflowed: then it is left out."""
        set_rate(self.optim, self.lr)
        self.scaler.step(self.optim)
        self.scaler.update()
        constrain(self.model, self.config.optim)
        if self.average:
            self.average.update_parameters(self.model)
        self.step += 1

    def begin_epoch(self) -> None:
        """Keeps what `begin_again` may need."""
        self.loss, self.correct = 0.0, 0
        self._began = None
        if self.slowed < self.config.retries:
            self._began = {key: x.clone() for key, x in self.tensors().items()}, self.state()

    def begin_again(self) -> bool:
        """Goes back to where the epoch began, at a tenth of the learning rate; False where the config allows no more of that."""
        if self._began is None:
            return False
        slowed, micro_batch = self.slowed + 1, self.micro_batch
        self.put(*self._began)
        self.slowed, self.micro_batch = slowed, micro_batch
        return True

    def abandon_step(self) -> None:
        """Forgets the gradients, and that they were unscaled."""
        self.optim.zero_grad()
        self.scaler = self._scaler(self.scaler.state_dict())

    def end_epoch(self, epoch: Epoch) -> None:
        self.history.append(epoch)
        if self.config.patience and best_epoch(self.history) == len(self.history):
            self.best = {key: x.detach().clone() for key, x in self._result_state().items()}

    def finish(self) -> None:
        """Leaves the model with the weights that count."""
        self.model.load_state_dict(self.best or self._result_state())
        self.model.eval()

    @contextlib.contextmanager
    def unspoilt(self) -> Iterator[None]:
        """A forward pass changes running statistics; they are put back where what is done here fails."""
        kept = [buffer.clone() for buffer in self.model.buffers()]
        try:
            yield
        except BaseException:
            for buffer, before in zip(self.model.buffers(), kept, strict=True):
                buffer.copy_(before)
            raise

    def running_statistics(self) -> list[Tensor]:
        return [buffer for buffer in self.model.buffers() if buffer.is_floating_point()]

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers, of the average and the best too, and the optimiser's state by the names of the parameters; the same of
        where the epoch began."""
        average = self.average.state_dict() if self.average else {}
        return {
            **{f"model.{key}": x for key, x in self.model.state_dict().items()},
            **{f"average.{key}": x for key, x in average.items()},
            **{f"best.{key}": x for key, x in self.best.items()},
            **{f"optim.{name}:{slot}": x for name, slot, x in self._slots()},
            **{f"began.{key}": x for key, x in (self._began[0] if self._began else {}).items()},
        }

    def state(self) -> dict[str, Any]:
        """The rest, as JSON can hold it."""
        return {
            "step": self.step,
            "loss": self.loss,
            "correct": self.correct,
            "micro_batch": self.micro_batch,
            "slowed": self.slowed,
            "scaler": self.scaler.state_dict(),
            "history": [asdict(epoch) for epoch in self.history],
            "began": self._began[1] if self._began else None,
        }

    def put(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Makes `tensors()` and `state()` these."""
        self.step, self.loss, self.correct = state["step"], state["loss"], state["correct"]
        self.micro_batch, self.slowed = state["micro_batch"], state["slowed"]
        self.scaler = self._scaler(state["scaler"])
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.model.load_state_dict(_under("model.", tensors))
        if self.average:
            self.average.load_state_dict(_under("average.", tensors))
        self.best = _under("best.", tensors)
        self._began = (_under("began.", tensors), state["began"]) if state["began"] else None
        parameters = dict(self.model.named_parameters())
        self.optim.state.clear()
        for key, x in _under("optim.", tensors).items():
            name, _, slot = key.rpartition(":")
            parameter = parameters[name]
            self.optim.state[parameter][slot] = x.clone() if not x.ndim else torch.empty_like(parameter).copy_(x)

    def ensure_room(self, run: Run) -> None:
        """Raises `ConvAtlasError` where the checkpoints would not fit on the disk."""
        optimiser = 2 * sum(p.nbytes for p in self.model.parameters())  # at the most
        best = sum(x.nbytes for x in self._result_state().values()) if self.config.patience else 0
        all_ = sum(x.nbytes for x in self.tensors().values()) + optimiser + best
        run.ensure_room(all_ * 2 if self.config.retries else all_)

    def save(self, run: Run) -> None:
        run.save(self.step, self.tensors(), self.state())

    def take_up(self, run: Run) -> None:
        """What the newest checkpoint of the run holds, if there is one."""
        found = run.resume()
        if found and self.state().keys() - found.state.keys():
            raise ConvAtlasError(
                f"{run.folder} was begun by a version whose checkpoints lack what this one keeps.",
                remedy="Finish it with that version, or start again with another --out.",
            )
        if found:
            self.put(found.tensors, found.state)

    def _scaler(self, state: Mapping[str, Any] | None = None) -> torch.amp.GradScaler:
        """A new one, since none can be told to forget a step that it has begun."""
        device = next(self.model.parameters()).device.type
        scaler = torch.amp.GradScaler(device, enabled=self.config.precision == "float16")
        if state:
            scaler.load_state_dict(dict(state))
        return scaler

    def _result_state(self) -> dict[str, Tensor]:
        return self.average.module.state_dict() if self.average else self.model.state_dict()

    def _slots(self) -> Iterator[tuple[str, str, Tensor]]:
        for name, parameter in self.model.named_parameters():
            for slot, x in self.optim.state.get(parameter, {}).items():
                if isinstance(x, Tensor):
                    yield name, slot, x


def last_result(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """From the tensors of a checkpoint the state of the model that counts there, whichever epoch patience may have preferred."""
    return _under("average.module.", tensors) or _under("model.", tensors)


def best_epoch(history: Sequence[Epoch]) -> int:
    """The first epoch of the highest held-out accuracy, counted from 1; 0 where none was measured."""
    measured = [(epoch.held_out, -epoch.epoch) for epoch in history if epoch.held_out is not None]
    return -max(measured)[1] if measured else 0


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}
