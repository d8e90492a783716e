"""How memory grows with the data: the peak of a fit on 10,000 images against one on 500 of the same.

CIFAR-10's test images at 224 pixels through MobileNetV1-0.75 (the most features an image of the networks at hand), and MNIST's digits
through ResNet-20 at 32 pixels (cheap). Neither set has a test part, so the headline comes from outer folds, each of which chooses anew:
the path that needs the most memory. Both fits in a new process each, empty cache, report included.
"""

from __future__ import annotations

from pathlib import Path

from measuring import SHARED, WEIGHTS, fit, folder, python, say, section, table, target

RESNET20 = SHARED / "weights/cifar10/resnet20-12fca82f.th"
CASES = {
    "cifar10-test, MobileNetV1-0.75 at 224": ("cifar10-test", ("--weights", WEIGHTS)),
    "mnist-10k, ResNet-20 at 32": ("mnist-10k", ("--weights", RESNET20, "--backbone", "resnet20_cifar")),
}
FEW_PER_CLASS = 50
LIMIT_MB = 300


def few(data: Path, out: Path) -> Path:
    """The first 50 images of each class, as links in the folder `out`."""
    for kind in sorted(path for path in data.iterdir() if path.is_dir()):
        (out / kind.name).mkdir(parents=True)
        for image in sorted(kind.iterdir())[:FEW_PER_CLASS]:
            (out / kind.name / image.name).hardlink_to(image)
    return out


def main() -> None:
    torch = python("-c", "import torch").peak_bytes / 1e6
    rows: list[tuple[object, ...]] = [("`import torch` alone", "", f"{torch:.0f}", "", "")]
    targets = []
    with folder() as scratch:
        for case, (name, options) in CASES.items():
            python(SHARED / "data/unpack.py", scratch, name)
            peaks = []
            for data in (few(scratch / name, scratch / f"{name}-few"), scratch / name):
                say(f"{case}: {data.name}")
                run = fit(data, *options)
                peaks.append(run.peak_bytes / 1e6)
                images = run.json["images"]
                rows.append(
                    (case, images["train"] + images["test"], f"{peaks[-1]:.0f}", f"{run.seconds:.0f}", run.json["plan"])
                )
            growth = peaks[1] - peaks[0]
            targets.append(target(f"{case}: grows by at most {LIMIT_MB} MB", f"{growth:.0f} MB", growth <= LIMIT_MB))
    section(
        "Memory: 10,000 images against 500",
        "Peak resident memory of whole `convatlas fit` processes (the kernel's own count), one run each.",
        table(("", "images", "peak MB", "seconds", "chosen"), rows),
        targets=targets,
    )


if __name__ == "__main__":
    main()
