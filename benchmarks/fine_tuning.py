"""Ours beside the two ways most people learn first: PyTorch's transfer-learning tutorial and fastai's `fine_tune(4)`.

Whole processes on the tutorial's own data, hymenoptera, all three with the same weights. The peers take minutes, so they run once; what
fine-tuning gives varies by a point or two from seed to seed, ours does not vary.
"""

from __future__ import annotations

from measuring import ROOT, SHARED, WEIGHTS, fit, interleaved, python, section, spread, table

DATA = SHARED / "data/hymenoptera"
REPEATS = 1


def main() -> None:
    runs = interleaved(
        REPEATS,
        tutorial=lambda: python("-W", "ignore", ROOT / "benchmarks/tutorial.py", DATA, WEIGHTS),
        fastai=lambda: python("-W", "ignore", ROOT / "benchmarks/fastai_peer.py", DATA, WEIGHTS),
        ours=lambda: fit(DATA, "--weights", WEIGHTS),
    )
    names = {"ours": "`convatlas fit`", "tutorial": "PyTorch's tutorial, 25 epochs", "fastai": "fastai, `fine_tune(4)`"}
    seconds = {side: [run.seconds for run in runs[side]] for side in names}
    rows = []
    for side, name in names.items():
        accuracy = spread([run.json["accuracy"] for run in runs[side]], 4)
        if side == "tutorial":
            accuracy += f"; best epoch {spread([run.json['best'] for run in runs[side]], 4)}"
        times = [theirs / ours for theirs, ours in zip(seconds[side], seconds["ours"], strict=True)]
        rows.append((name, accuracy, spread(seconds[side], 1), spread(times, 1)))
    section(
        "Beside fine-tuning: PyTorch's tutorial and fastai",
        f"Whole processes on hymenoptera, rounds: {REPEATS}. The tutorial reports its best epoch, which is chosen "
        "on the very images it is judged by; the accuracy to compare is that of the last.",
        table(("", "accuracy", "seconds", "times ours"), rows),
        peers=("torchvision", "fastai"),
    )


if __name__ == "__main__":
    main()
