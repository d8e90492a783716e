"""PyTorch's "Transfer Learning for Computer Vision" tutorial (Sasank Chilamkurthy), either half of it, with the same weights as ours.

https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html: 25 epochs of SGD on everything or, with `frozen`, on a new
classifier alone; random crops and flips. Changed are only the network, the normalisation its weights demand, and a seed. The tutorial keeps
the epoch that is best on the validation part, which is also what it reports; here that part is everybody's test part, so the last epoch's
figure is given too.

Usage: `python tutorial.py [DATA WEIGHTS [SEED [frozen]]]`
"""

import copy
import json
import sys
import warnings
from pathlib import Path

import torch
from torch import nn, optim
from torch.optim import lr_scheduler
from torchvision import datasets, transforms

import convatlas
from measuring import SHARED, WEIGHTS

data, weights = map(Path, sys.argv[1:3] or (SHARED / "data/hymenoptera", WEIGHTS))
seed, frozen = int(sys.argv[3]) if len(sys.argv) > 3 else 0, "frozen" in sys.argv[4:]
judging = "val" if (data / "val").is_dir() else "test"
normalise = transforms.Normalize([0.5] * 3, [0.5] * 3)
augmented = transforms.Compose(
    [transforms.RandomResizedCrop(224), transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalise]
)
centred = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), normalise])


def main() -> None:
    torch.manual_seed(seed)
    sets = {part: datasets.ImageFolder(data / part, how) for part, how in (("train", augmented), (judging, centred))}
    loaders = {
        part: torch.utils.data.DataLoader(s, batch_size=4, shuffle=True, num_workers=4) for part, s in sets.items()
    }
    with warnings.catch_warnings(action="ignore"):  # the new classifier is meant
        model = convatlas.create("mobilenet_v1_075", num_classes=len(sets["train"].classes), weights=weights)
    trained = model.get_submodule(model.classifiers[0]) if frozen else model
    if frozen:
        model.requires_grad_(False)
        trained.requires_grad_(True)
    optimizer = optim.SGD(trained.parameters(), lr=0.001, momentum=0.9)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=7, gamma=0.1)
    loss_of = nn.CrossEntropyLoss()
    accuracies: list[float] = []
    best = copy.deepcopy(model.state_dict())
    for _ in range(25):
        model.train()
        for images, labels in loaders["train"]:
            optimizer.zero_grad()
            loss_of(model(images), labels).backward()
            optimizer.step()
        scheduler.step()
        model.eval()
        with torch.no_grad():
            correct = sum((model(images).argmax(1) == labels).sum().item() for images, labels in loaders[judging])
        accuracies.append(correct / len(sets[judging]))
        if accuracies[-1] == max(accuracies):
            best = copy.deepcopy(model.state_dict())
    model.load_state_dict(best)
    print(json.dumps({"accuracy": accuracies[-1], "best": max(accuracies)}))


if __name__ == "__main__":
    main()
