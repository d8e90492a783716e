"""Foreign weights packed and judged: ResNet-20 of the CIFAR-10 ResNets as their author saved it, on 10,000 test images.

The file is a pickled checkpoint (`module.` keys inside `state_dict`, option A shortcuts) that says nothing of classes or preprocessing.
0.810 is what these weights give on these JPEG copies (91.7 % on the original pixels), so that figure shows keys, preprocessing and
class order to be right. The images come once as folders and once as a zip, which must not matter.
"""

from __future__ import annotations

import json

from measuring import CONVATLAS, SHARED, folder, process, python, say, section, table, target

FILE = SHARED / "weights/cifar10/resnet20-12fca82f.th"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PREPROCESS = {"input_size": [3, 32, 32], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "crop_pct": 1.0}
EXPECTED, TOLERANCE = 0.810, 0.002


def main() -> None:
    rows = []
    with folder() as scratch:
        for form in ((), ("--zip",)):
            python(SHARED / "data/unpack.py", scratch, "cifar10-test", *form)
        classes, preprocess, model = scratch / "classes.txt", scratch / "preprocess.json", scratch / "model"
        classes.write_text("\n".join(CLASSES))
        preprocess.write_text(json.dumps(PREPROCESS | {"interpolation": "bilinear"}))
        options = ("--classes", classes, "--preprocess", preprocess, "--out", model)
        process(CONVATLAS, "pack", "resnet20_cifar", "--weights", FILE, *options)
        accuracies = []
        for name, data in (("folder", "cifar10-test"), ("zip", "cifar10-test.zip")):
            say(name)
            run = process(CONVATLAS, "evaluate", model, scratch / data, "--json")
            low, high = run.json["accuracy_interval"]
            accuracies.append(run.json["accuracy"])
            rows.append(
                (name, run.json["images"], f"{accuracies[-1]:.4f} [{low:.3f}, {high:.3f}]", f"{run.seconds:.1f}")
            )
    right = all(abs(accuracy - EXPECTED) <= TOLERANCE for accuracy in accuracies)
    section(
        "CIFAR ResNet-20, packed and evaluated",
        "`convatlas pack resnet20_cifar --weights resnet20-12fca82f.th --classes … --preprocess …`, then `convatlas evaluate` on the "
        "10,000 test images; whole processes, one run each.",
        table(("images from a", "images", "accuracy", "seconds"), rows),
        targets=[
            target(f"accuracy {EXPECTED:.3f} ± {TOLERANCE}", " and ".join(f"{a:.4f}" for a in accuracies), right),
            target(
                "folder and zip give the same", f"{accuracies[0] - accuracies[1]:+.4f}", accuracies[0] == accuracies[1]
            ),
        ],
    )


if __name__ == "__main__":
    main()
