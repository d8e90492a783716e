"""Trainings by one process and by two: run as `python pair.py FOLDER [CASE …]`, writes FOLDER/case/processes/rank.json and .safetensors."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from forked import finished, forked
from safetensors.torch import save_file
from test_loop import small_net, stripes
from torch import Tensor, nn

from convatlas.errors import Stopped
from convatlas.train import Augment, Optim, TrainConfig, accuracy, train
from convatlas.train.processes import Alone
from convatlas.train.run import open_run

CONFIG = TrainConfig(
    epochs=2,
    batch_size=16,
    micro_batch=8,
    image_size=20,
    optim=Optim(lr=0.1, warmup_epochs=1),
    augment=Augment(scale=(0.7, 1.0), flip=0.5, colour=0.2, mixup=0.2, cutmix=0.2, erase=0.2),
    label_smoothing=0.1,
)
CASES = {
    "sgd": CONFIG,
    "four": replace(CONFIG, micro_batch=4),
    "adamw": replace(CONFIG, optim=Optim(name="adamw", lr=0.01, warmup_epochs=1)),
    "ema": replace(CONFIG, ema=0.9),
    "weights": replace(CONFIG, balance="weights"),
    "sampling": replace(CONFIG, balance="sampling"),
    "bfloat16": replace(CONFIG, precision="bfloat16"),
    "one_step": replace(CONFIG, epochs=1, batch_size=40, micro_batch=20),
    "stop": CONFIG,
    "fault": CONFIG,
}


def spoil(module: nn.Module, given: object, made: Tensor) -> Tensor:
    return made * float("nan")


def work(folder: Path, case: str, together: Alone) -> None:
    config, images, held_out = CASES[case], stripes(40, seed=1), stripes(21, seed=2)
    model = small_net()
    if case == "fault" and together.rank == together.count - 1:
        model.get_submodule("relu").register_forward_hook(spoil)
    found: dict[str, object] = {}
    with open_run(folder / "run", {"config": asdict(config)}, together=together) as run:

        def progress(step: int, steps: int) -> None:  # only one process is asked to stop
            run.stop = case == "stop" and step == 2 and together.rank == together.count - 1

        try:
            history = train(*(model, images, config), held_out=held_out, together=together, run=run, progress=progress)
            found = {"history": [{**asdict(epoch), "seconds": 0} for epoch in history]}
        except Stopped as stopped:
            found = {"stopped": str(stopped)}
            run.stop = False
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"}
    found["accuracy"] = accuracy(model, held_out, config, together)
    save_file({key: x.contiguous() for key, x in model.state_dict().items()}, folder / f"{together.rank}.safetensors")
    (folder / f"{together.rank}.json").write_text(json.dumps(found))


def main() -> None:
    for case in sys.argv[2:] or CASES:
        for count in (1, 2):
            folder = Path(sys.argv[1], case, str(count))
            folder.mkdir(parents=True)
            if any(finished(forked(count, partial(work, folder, case)))):
                sys.exit(f"{case} with {count} failed by itself")


if __name__ == "__main__":
    main()
