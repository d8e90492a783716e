"""The recipes as a table: `convatlas list --recipes` shows it, `python -m convatlas.train.recipes.table` writes it into docs/train.md."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

from convatlas.train.config import Augment, Optim
from convatlas.train.recipes import RECIPES

PAGE = Path(__file__).parents[4] / "docs/train.md"
BEGIN, END = "<!-- recipes: python -m convatlas.train.recipes.table -->\n", "<!-- /recipes -->\n"
COLUMNS = ("recipe", "network", "optimiser", "rate", "batch", "epochs", "schedule", "augmentation", "source")


def described(pattern: str = "*") -> list[dict[str, Any]]:
    """Every recipe whose name matches the shell pattern, as plain data; those named for one network come with the recipe they are of."""
    rows: list[dict[str, Any]] = []
    for name in fnmatch.filter(RECIPES, pattern):
        found = RECIPES[name]()
        optim, config = found.config.optim, found.config
        rows.append(
            {
                "name": name,
                "network": found.network,
                "networks": list(RECIPES[name].networks),
                "optimiser": optimiser_text(optim),
                "lr": optim.lr,
                "batch_size": config.batch_size,
                "epochs": config.epochs,
                "image_size": config.image_size,
                "schedule": schedule_text(optim, config.epochs),
                "augmentation": augmentation_text(config.augment),
                "source": found.source,
            }
        )
    return rows


def row(found: dict[str, Any]) -> tuple[str, ...]:
    """One of `described` as words, a column each."""
    numbers = (f"{found['lr']:g}", str(found["batch_size"]), str(found["epochs"]))
    words = (found["schedule"], found["augmentation"], found["source"])
    return (found["name"], found["network"], found["optimiser"], *numbers, *words)


def optimiser_text(optim: Optim) -> str:
    """`SGD 0.9, Nesterov, decay 0.0005`."""
    words = {"sgd": "SGD", "rmsprop": "RMSprop", "adamw": "AdamW", "lamb": "LAMB"}[optim.name]
    if optim.name in ("sgd", "rmsprop") and optim.momentum:
        words += f" {optim.momentum:g}"
    if optim.name == "sgd" and optim.nesterov and optim.momentum:
        words += ", Nesterov"
    words += f", decay {optim.weight_decay:g}" if optim.weight_decay else ", no decay"
    return words + (f", clipped at {optim.clip_norm:g}" if optim.clip_norm else "")


def schedule_text(optim: Optim, epochs: int) -> str:
    """What the learning rate does, in epochs of the run."""
    after = [f"{share * epochs:.4g}" for share in optim.drops]
    ends = f"{', '.join(after[:-1])} and {after[-1]}" if len(after) > 1 else "".join(after)
    levels = [f"{optim.lr * level:g}" for level in optim.levels]
    words = {
        "step": f"{', '.join(levels)} after {ends}" if levels else f"÷ {optim.divisor:g} after {ends}",
        "plateau": f"÷ {optim.divisor:g} when {optim.watch} accuracy stops rising, at most {optim.most_drops} times",
        "exponential": f"× {optim.factor:g} every "
        + ("epoch" if optim.factor_epochs == 1 else f"{optim.factor_epochs:g} epochs"),
        "polynomial": f"what is left to the power {optim.power:g}",
        "halving": f"÷ {optim.divisor:g} whenever the epochs left halve",
        "cosine": "cosine",
        "onecycle": "one cycle",
        "triangle": f"up for {100 * optim.rise:g} % of the run, down to {100 * optim.final_lr:g} %",
    }[optim.schedule]
    warms = optim.warmup_epochs and optim.schedule not in ("onecycle", "triangle")
    return f"warm-up of {optim.warmup_epochs:g}, {words}" if warms else words


def augmentation_text(augment: Augment) -> str:
    """What happens to a training image."""
    low, high = augment.sides
    said = [
        (augment.pad, f"{'mirrored ' if augment.padding == 'reflect' else ''}padding of {augment.pad}"),
        (augment.scale != (1.0, 1.0), f"crops of {100 * augment.scale[0]:g} to {100 * augment.scale[1]:g} %"),
        (high, f"crops as at {low}" + (f" to {high}" if high > low else "")),
        (augment.flip, "flips" if augment.flip_mode == "random" else "flips in turn"),
        (augment.rotate, f"rotation ±{augment.rotate:g}°"),
        (augment.colour, f"colours ± {100 * augment.colour:g} %"),
        (augment.pca, f"colour noise {augment.pca:g}"),
        (augment.randaugment, f"RandAugment {augment.randaugment:g}"),
        (augment.mixup, f"mixup {augment.mixup_alpha:g}"),
        (augment.cutmix, "cutmix"),
        (augment.cutout, f"cutout {augment.cutout}"),
        (augment.erase, "erasing"),
    ]
    return ", ".join(text for there, text in said if there) or "none"


def markdown() -> str:
    """The table of docs/train.md; recipes that are named for a network and say nothing of their own are left to the text around it."""
    found = [each for each in described() if each["name"] not in each["networks"]]
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(tuple(_cell(i, x) for i, x in enumerate(row(each))) for each in found)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page(text: str) -> str:
    """The text of docs/train.md with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + markdown() + END + rest.partition(END)[2]


def _cell(column: int, text: str) -> str:
    return f"`{text}`" if column < 2 else text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
