"""Szegedy et al. Going Deeper with Convolutions. 2015. https://arxiv.org/abs/1409.4842, figure 2: the inception module, naive and reduced.

The 1×1 convolutions before the large filters save most of the multiplications, as the slides' example shows; whether they cost accuracy is
tried with two small networks of two modules each.
"""

from __future__ import annotations

from convatlas.studies import small_nets
from convatlas.studies.finding import Finding
from convatlas.studies.inception import module
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
    Variant(
        name="inception-reduced",
        label="reduced modules",
        build=lambda classes: small_nets.inception(reduced=True, classes=classes),
    ),
    Variant(
        name="inception-naive",
        label="naive modules",
        build=lambda classes: small_nets.inception(reduced=False, classes=classes),
    ),
)


def find(laboratory: Laboratory) -> Finding:
    """Records the slides' modules, and trains both networks from every seed."""
    slides = {reduced: module(reduced=reduced) for reduced in (True, False)}
    found = compared(laboratory, VARIANTS, lr=LR)
    reduced, naive = found
    return Finding(
        title="Inception, naive and reduced",
        protocol=protocol(laboratory, found, lr=LR),
        columns=COLUMNS,
        rows=rows(found),
        chart=chart(
            found,
            "Test accuracy of two networks that differ in the 1×1 convolutions of their modules; bars are 95 % intervals.",
        ),
        paragraph=(
            f"The slides' module costs {slides[False].mult_adds / 1e6:,.0f} million mult-adds naive and "
            f"{slides[True].mult_adds / 1e6:,.0f} million reduced, and hands on {slides[False].made[0]} maps or {slides[True].made[0]}. A "
            f"small network of two naive modules has {costs(naive, reduced)} of one with reduced modules. Test accuracy is "
            f"{accuracies(found)}: {told(naive, reduced)}."
        ),
        figures=figures(found)
        | {"slides_mult_adds": {"naive": slides[False].mult_adds, "reduced": slides[True].mult_adds}},
    )
