"""Which channels of a stage tell the user's classes apart, and which images excite them most.

After Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2014, https://arxiv.org/abs/1311.2901: a channel is shown by
the image patches that excite it most. A stage has hundreds of channels, so those are shown that are most selective: a channel's answer to
an image is its largest value over places, and its selectivity the share of the variance of these answers that lies between the classes,
corrected for chance (Kelley's ε², 1935). Of channels that answer alike only the first is taken.
"""

from __future__ import annotations

import numpy as np

_ALIKE = 0.7  # correlation of answers from which two channels show the same


def selectivity(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """ε² (channels,) of answers (n, channels) by class: at most 1, about 0 for a channel to which classes are alike."""
    count, classes = len(labels), np.unique(labels)
    total = answers.var(axis=0, dtype=np.float64) * count
    within = np.zeros(answers.shape[1])
    for label in classes:
        own = answers[labels == label]
        within += own.var(axis=0, dtype=np.float64) * len(own)
    left = count - len(classes)
    if left <= 0 or len(classes) < 2:
        return np.zeros(answers.shape[1])
    error = within / left
    between = total - within - (len(classes) - 1) * error
    floor = 1e-9 * max(float(total.max()), 1e-30)  # of a channel that hardly varies the ratio is rounding
    return np.where(total > floor, between / np.maximum(total, 1e-30), 0.0)


def most_selective(answers: np.ndarray, labels: np.ndarray, count: int) -> list[int]:
    """At most `count` channels, the most selective first, no two of them alike."""
    order = np.argsort(-selectivity(answers, labels), kind="stable")
    spread = answers.std(axis=0, dtype=np.float64)
    normed = (answers - answers.mean(axis=0, dtype=np.float64)) / np.where(spread > 0, spread, 1.0)
    chosen: list[int] = []
    for channel in order.tolist():
        if spread[channel] == 0:
            continue
        alike = [abs(float(normed[:, channel] @ normed[:, other])) / len(labels) for other in chosen]
        if not alike or max(alike) < _ALIKE:
            chosen.append(channel)
        if len(chosen) == count:
            break
    return chosen
