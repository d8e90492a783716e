"""Krizhevsky et al. ImageNet Classification with Deep Convolutional Neural Networks. 2012: what its parts do, one taken away at a time.

Data augmentation (section 4.1), dropout (4.2) and local response normalisation (3.3) are what the slides list beside the rectifier; batch
norm (Ioffe, Szegedy. 2015. https://arxiv.org/abs/1502.03167) is what took the place of the last.
"""

from __future__ import annotations

from convatlas.studies.finding import Finding, percent
from convatlas.studies.laboratory import Laboratory
from convatlas.studies.small_nets import Norm, like_alexnet
from convatlas.studies.variants import COLUMNS, Variant, chart, compared, figures, protocol, rows, told

LR = 0.01


def _variant(name: str, label: str, *, norm: Norm = "response", dropout: float = 0.5, augment: bool = True) -> Variant:
    return Variant(
        name=name,
        label=label,
        build=lambda classes: like_alexnet(norm=norm, dropout=dropout, classes=classes),
        augment=augment,
    )


WHOLE = _variant("alexnet-like", "all parts")
VARIANTS = (
    WHOLE,
    _variant("without-augmentation", "no augmentation", augment=False),
    _variant("without-dropout", "no dropout", dropout=0.0),
    _variant("without-normalisation", "no response norm", norm="none"),
    _variant("with-batch-norm", "batch norm for response norm", norm="batch"),
)


def find(laboratory: Laboratory) -> Finding:
    """Trains the whole and each that lacks a part, from every seed."""
    found = compared(laboratory, VARIANTS, lr=LR)
    whole, others = found[0], found[1:]
    shown = [each for each in others if each.difference and each.difference.shown in ("more", "less")]
    verdict = (
        f"Of {len(others)} changes {len(shown)} {'makes' if len(shown) == 1 else 'make'} a difference that the data show."
        if len(whole.runs) > 1
        else "From one seed, differences are between these networks alone."
    )
    return Finding(
        title="What the parts of AlexNet do",
        protocol=protocol(laboratory, found, lr=LR)
        + " Each variant lacks one part of the first, and is compared with that alone; "
        "intervals are not widened for there being several.",
        columns=COLUMNS,
        rows=rows(found),
        chart=chart(
            found,
            "Test accuracy of a small network like AlexNet, with all its parts and with one changed; bars are 95 % intervals.",
        ),
        paragraph=(
            f"A small network like AlexNet reaches {percent(whole.accuracy.value)} on held-out images. {verdict} "
            + " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in (told(each, whole) for each in others))
        ),
        figures=figures(found),
    )
