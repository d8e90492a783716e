"""Simonyan, Zisserman. Very Deep Convolutional Networks. 2015. https://arxiv.org/abs/1409.1556, section 2.3: three 3×3 for one 7×7.

Both see 7×7 pixels of what they are given. Three layers have 27 C² weights where one has 49 C², and three rectifiers where one has one.
"""

from __future__ import annotations

from convatlas.studies import small_nets
from convatlas.studies.finding import Finding
from convatlas.studies.laboratory import Laboratory
from convatlas.studies.variants import (
    COLUMNS,
    Variant,
    accuracies,
    chart,
    compared,
    costs,
    figures,
    protocol,
    rows,
    told,
)

LR = 0.05
VARIANTS = (
    Variant(name="three-3x3", label="three 3×3", build=lambda classes: small_nets.filters((3, 3, 3), classes=classes)),
    Variant(name="one-7x7", label="one 7×7", build=lambda classes: small_nets.filters((7,), classes=classes)),
)


def find(laboratory: Laboratory) -> Finding:
    """Trains both from every seed."""
    found = compared(laboratory, VARIANTS, lr=LR)
    three, seven = found
    return Finding(
        title="Three 3×3 for one 7×7",
        protocol=protocol(laboratory, found, lr=LR),
        columns=COLUMNS,
        rows=rows(found),
        chart=chart(
            found,
            "Test accuracy of two networks that differ in the filters of their stages alone; bars are 95 % intervals.",
        ),
        paragraph=(
            f"With filters of 7×7 the network has {costs(seven, three)} of the one with three of 3×3 in their place, and as large a "
            f"receptive field. Test accuracy is {accuracies(found)}: {told(seven, three)}."
        ),
        figures=figures(found),
    )
