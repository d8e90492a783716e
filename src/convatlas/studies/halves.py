"""AlexNet in two processes beside AlexNet in one: how far they are apart, and what goes over the line; the study `two-processes`.

Krizhevsky et al. ImageNet Classification with Deep Convolutional Neural Networks. 2012, section 3.5: the GTX 580 has 3 GB, so the maps were
halved, and the halves speak only before some layers. `two_processes` trains it so; here its figures become a finding.
"""

from __future__ import annotations

from collections.abc import Callable

from convatlas.studies.finding import Cell, Chart, Column, Finding, listed
from convatlas.studies.two_gpus import TwoGPUs, two_gpus
from convatlas.studies.two_processes import TwoProcesses, two_processes

EQUAL = 1e-9  # a difference, in float64, that another order of the same additions explains


def find(progress: Callable[[str, int, int], None] = lambda what, done, total: None) -> Finding:
    """Trains both for a few steps, about a minute on two cores, and counts what the halves send."""
    progress("two processes", 0, 1)
    found = two_processes()
    progress("two processes", 1, 1)
    return told(found, two_gpus())


def told(found: TwoProcesses, sizes: TwoGPUs) -> Finding:
    """The figures, worded."""
    layers = {layer: bytes_ * sizes.batch for layer, bytes_ in sizes.exchanged.items()}
    rows: list[list[Cell]] = [
        [layer, sizes.exchanged[layer], bytes_, bytes_, 2 * bytes_] for layer, bytes_ in layers.items()
    ]
    rows.append(["all", sum(sizes.exchanged.values()), sum(layers.values()), sum(layers.values()), sizes.sent])
    equal = max(found.loss_difference, found.weight_difference, found.gradient_difference) <= EQUAL
    most = max(layers, key=lambda layer: layers[layer])
    share = layers[most] / sum(layers.values())
    same = (
        f"Two processes with half of the maps each trained to the same network as one: after {found.steps} steps no weight differs by more "
        f"than {found.weight_difference:.1e}, no gradient of the first step by more than {found.gradient_difference:.1e} of its layer's "
        f"greatest, no loss by more than {found.loss_difference:.1e} ({found.dtype})."
        if equal
        else f"Two processes with half of the maps each did not train to the same network as one: after {found.steps} steps weights differ "
        f"by up to {found.weight_difference:.1e} and losses by up to {found.loss_difference:.1e} ({found.dtype})."
    )
    norm = (
        "That is of the network whose response normalisation stays within a half, as on the two GPUs; normalised across the cut, as on one "
        f"device, logits of the untrained network differ by up to {found.norm_across:.1e} of the greatest."
    )
    line = (
        f"The halves speak only before {listed(list(layers))}; for the paper's batch of {sizes.batch} each sends "
        f"{sizes.sent / 1e6:,.1f} MB a step, forward and backward, {100 * share:.0f} % of it at {most}."
    )
    return Finding(
        title="AlexNet on two devices",
        protocol=(
            f"AlexNet with {len(found.losses)} steps of SGD with momentum on {found.images} random images, without dropout, from the same "
            "weights in one process and in two, which exchange maps and their gradients. Bytes are counted from the sizes of the tensors "
            f"in float32, for a batch of {sizes.batch}; those that the two processes really sent are among the figures of study.json."
        ),
        columns=(
            Column(name="before layer", kind="text"),
            Column(name="each sends for an image", kind="bytes"),
            Column(name="for a batch, forward", kind="bytes"),
            Column(name="backward", kind="bytes"),
            Column(name="a step", kind="bytes"),
        ),
        rows=rows,
        chart=Chart(
            kind="dots",
            caption=f"What each half sends the other in a step of {sizes.batch} images, both ways, before each layer that reads both.",
            x="bytes, float32",
            rows=[{"panel": "before each layer", "label": layer, "x": 2 * bytes_} for layer, bytes_ in layers.items()],
        ),
        paragraph=f"{same} {norm} {line}",
        figures={
            **found.to_json(),
            "exchanged_bytes_for_an_image": sizes.exchanged,
            "sent_bytes_for_a_batch": sizes.sent,
        },
    )
