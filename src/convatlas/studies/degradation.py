"""He et al. Deep Residual Learning. 2015. https://arxiv.org/abs/1512.03385, figure 6: plain networks get worse with depth.

Residual ones do not. What is strange about the slides' curves is their order: the deeper plain network has the higher *training* error,
so it does not overfit, it is not found. The error that decides is that of the last weights on the training images as they are. The error
during an epoch, which the curves show as the paper's do, is of augmented images while the weights still change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from convatlas.errors import ConvAtlasError
from convatlas.studies.finding import (
    DIFFERENCE,
    SHARE,
    Cell,
    Chart,
    Column,
    Estimate,
    Finding,
    by_image,
    by_seed,
    listed,
    points,
)
from convatlas.studies.laboratory import Laboratory, Trained, error_curve
from convatlas.studies.plans import many

PAIRS = {"plain": ("plain20_cifar", "plain56_cifar"), "residual": ("resnet20_cifar", "resnet56_cifar")}
NAMES = [name for pair in PAIRS.values() for name in pair]
PAPERS = 64_000 * 128  # images that the paper's training sees
_SHORT = {
    "plain20_cifar": "plain-20",
    "plain56_cifar": "plain-56",
    "resnet20_cifar": "ResNet-20",
    "resnet56_cifar": "ResNet-56",
}


def find(laboratory: Laboratory) -> Finding:
    """Trains the four networks from each seed, and compares the deep ones with the shallow ones."""
    seeds = range(laboratory.length.seeds)
    trainings = [laboratory.of_recipe(name, seed) for seed in seeds for name in NAMES]
    return judged(laboratory.trained(trainings, records=True), laboratory)


def judged(runs: Sequence[Trained], laboratory: Laboratory) -> Finding:
    """What the runs show, be they finished or not."""
    by_name = {name: [run for run in runs if run.name == name and run.epochs] for name in NAMES}
    if not any(by_name.values()):
        raise ConvAtlasError(
            f"{laboratory.runs}: no run of {', '.join(NAMES)} has finished an epoch.",
            remedy="Leave out --partial to train them, or say with --runs where they are.",
        )
    finished = [run for run in runs if run.counted]
    differences, at = _differences(by_name, laboratory)
    lengths = laboratory.length
    whole = len(finished) == len(NAMES) * lengths.seeds
    so_far = "" if whole else _so_far(by_name, finished, laboratory)
    return Finding(
        title="Degradation: deeper plain networks",
        protocol=(
            f"{listed([_SHORT[name] for name in NAMES])} on {len(laboratory.training):,} training images of "
            f"{len(laboratory.classes)} classes for {many(lengths.epochs, 'epoch')} as in He et al. 2015, section 4.2 (SGD with "
            "momentum, batches of 128, the rate of 0.1 divided by 10 after a half and three quarters, shifts by up to 4 pixels and "
            f"flips), {many(lengths.seeds, 'seed')}. Training error: the last weights, in evaluation mode, on the "
            f"training images without augmentation. Test error: the same on {len(laboratory.held_out):,} held-out images, by which "
            "nothing was chosen."
        ),
        columns=(
            Column(name="network", kind="text"),
            Column(name="runs finished", kind="count"),
            Column(name="training error", kind="percent"),
            Column(name="test error", kind="percent"),
        ),
        rows=[_row(name, by_name[name]) for name in NAMES],
        chart=_chart(by_name),
        paragraph=" ".join(part for part in (so_far, _verdict(differences, at, laboratory)) if part),
        figures={
            "differences": {kind: asdict(found) for kind, found in differences.items()},
            "judged": at,
            "runs": [
                {
                    "network": run.name,
                    "seed": run.seed,
                    "training_error": run.counted.training_error if run.counted else None,
                    "test_error": run.counted.held_out_error if run.counted else None,
                    "epochs": run.epochs,
                }
                for run in runs
            ],
        },
    )


def _row(name: str, runs: Sequence[Trained]) -> list[Cell]:
    counted = [run.counted for run in runs if run.counted]
    if not counted:
        return [_SHORT[name], 0, None, None]
    train, test = [each.training_error for each in counted], [each.held_out_error for each in counted]
    return [_SHORT[name], len(counted), by_seed(train, within=SHARE), by_seed(test, within=SHARE)]


def _chart(by_name: dict[str, list[Trained]]) -> Chart:
    rows = []
    for kind, pair in PAIRS.items():
        for name in pair:
            for part, told in (("top1", "training"), ("held_out", "test")):
                curves = [error_curve(run, part) for run in by_name[name]]
                for epoch in range(max(map(len, curves), default=0)):
                    found = [curve[epoch] for curve in curves if len(curve) > epoch]
                    row = {"panel": f"{kind} networks", "line": _SHORT[name].partition("-")[2] + " layers"}
                    row |= {"dashed": told, "x": epoch + 1, "y": sum(found) / len(found)}
                    rows.append(row | {"low": min(found), "high": max(found)})
    return Chart(
        kind="lines",
        caption="Error after each epoch, as in figure 6 of the paper: dashed on the training images as they were learned from, augmented, "
        "solid on the held-out images. Lines are means over seeds, bands their range.",
        x="epoch",
        y="error",
        rows=rows,
        percent=True,
    )


def _differences(by_name: dict[str, list[Trained]], laboratory: Laboratory) -> tuple[dict[str, Estimate], str]:
    """The training error of the deep network less that of the shallow one, and what training error that is.

    Of the last weights where every network has a finished run from one seed at least; else of the last epoch that all have reached.
    """
    seeds = {name: {run.seed: run for run in runs} for name, runs in by_name.items()}
    done = {name: {seed: run.counted for seed, run in found.items() if run.counted} for name, found in seeds.items()}
    common = sorted(set.intersection(*map(set, done.values())))
    if common:
        at = "last weights"
        values = {
            kind: [done[deep][seed].training_error - done[shallow][seed].training_error for seed in common]
            for kind, (shallow, deep) in PAIRS.items()
        }
        found = {kind: by_seed(each, within=DIFFERENCE) for kind, each in values.items()}
        labels = laboratory.training.labels
        if len(common) == 1 and all(len(found[common[0]].training) == len(labels) for found in done.values()):
            # then of these networks alone, image by image
            for kind, (shallow, deep) in PAIRS.items():
                a, b = ((done[name][common[0]].training.argmax(1) != labels).int() for name in (deep, shallow))
                each = by_image((a - b).tolist())
                found[kind] = replace(each, of=f"{each.of}, of these two networks alone")
        found["both"] = by_seed([a - b for a, b in zip(values["plain"], values["residual"], strict=True)])
        return found, at
    found, reached = {}, {}
    for kind, (shallow, deep) in PAIRS.items():
        both = sorted(seeds[shallow].keys() & seeds[deep].keys())
        if both:
            epoch = min(len(seeds[name][seed].epochs) for name in (shallow, deep) for seed in both)
            curve = {
                (name, seed): error_curve(seeds[name][seed], "top1")[epoch - 1]
                for name in (shallow, deep)
                for seed in both
            }
            found[kind] = by_seed([curve[deep, seed] - curve[shallow, seed] for seed in both], within=DIFFERENCE)
            reached[kind] = epoch
    at = "; ".join(f"{kind}: during epoch {epoch}, on augmented images" for kind, epoch in reached.items())
    return found, at or "nothing to compare yet"


def _so_far(by_name: dict[str, list[Trained]], finished: Sequence[Trained], laboratory: Laboratory) -> str:
    wanted = len(NAMES) * laboratory.length.seeds
    begun = [
        f"{_SHORT[name]} seed {run.seed} has done {len(run.epochs)} of {many(laboratory.length.epochs, 'epoch')}"
        for name in NAMES
        for run in by_name[name]
        if not run.counted
    ]
    is_ = "is" if len(finished) == 1 else "are"
    told = f"This is what there is so far: {len(finished)} of {wanted} runs {is_} finished"
    return f"{told}; {listed(begun)}." if begun else f"{told}."


def _verdict(found: dict[str, Estimate], at: str, laboratory: Laboratory) -> str:
    """In words, from the figures alone."""
    told: list[str] = []
    when = dict(part.split(": ", 1) for part in at.split("; ") if ": " in part)
    for kind, (shallow, deep) in PAIRS.items():
        if kind not in found:
            told.append(f"{_SHORT[shallow]} and {_SHORT[deep]} cannot be compared yet.")
            continue
        a, b = _SHORT[deep], _SHORT[shallow]
        claim = {
            "more": f"{a} fits its training images worse than {b}",
            "less": f"{a} fits its training images better than {b}",
            "neither": f"the data do not show a difference between {a} and {b} on the training images",
            "unknown": f"{a} and {b} were compared from one seed only, which does not show a difference between such networks",
        }[found[kind].shown]
        of = "the last weights' training error" if at == "last weights" else f"the training error {when[kind]},"
        told.append(f"{claim[0].upper()}{claim[1:]}: {of} differs by {points(found[kind])}.")
    if any(each.of.endswith("alone") for each in found.values()):
        told.append("These are single networks; whether others trained alike differ so, one seed cannot tell.")
        return " ".join(told)
    plain, residual = (found[kind].shown if kind in found else "unknown" for kind in PAIRS)
    if plain == "more" and residual == "less":
        told.append("That is degradation, and the shortcuts turn it round: with them the deeper network fits better.")
    elif plain == "more" and residual == "neither":
        told.append("That is degradation; whether the shortcuts cure all of it, these runs leave open.")
    elif plain == "more" and residual == "more":
        less = laboratory.length.epochs * laboratory.length.images < PAPERS
        told.append(f"That is degradation of both kinds at this length{'; the paper trained longer' if less else ''}.")
    elif plain == "more":
        told.append(
            "Of the plain networks that is degradation: worse on what it was trained on, so it is not overfitting."
        )
    elif plain in ("less", "neither"):
        told.append("So degradation is not shown here.")
    if "both" in found and found["both"].low is not None:
        change = {
            "more": "costs the plain networks more than the residual ones",
            "less": "costs the residual networks more than the plain ones",
        }
        does = change.get(found["both"].shown, "is not shown to cost one kind more than the other")
        told.append(f"Depth {does}: the difference of the differences is {points(found['both'])}.")
    return " ".join(told)
