"""How good, and how sure: counts, intervals and calibration of a classifier's predictions. numpy only."""

from __future__ import annotations

from convatlas.metrics.calibration import (
    Bin,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    reliability,
    softmax,
)
from convatlas.metrics.clusters import independent_number, share_interval
from convatlas.metrics.conformal import conformal_threshold, fewest, own_scores, p_values, prediction_sets, set_scores
from convatlas.metrics.confusion import (
    ClassRow,
    accuracy,
    balanced_accuracy,
    balanced_accuracy_interval,
    confusion_matrix,
    per_class,
)
from convatlas.metrics.intervals import wilson
from convatlas.metrics.label_errors import LabelErrors, Suspect, label_errors
from convatlas.metrics.over_seeds import over_seeds
from convatlas.metrics.paired import paired_interval
from convatlas.metrics.ranks import kendall
from convatlas.metrics.repeated import repeated_interval
from convatlas.metrics.shift import Gap, Rights, class_gaps, difference_interval, gap, without_choice

__all__ = [
    "Bin",
    "ClassRow",
    "Gap",
    "LabelErrors",
    "Rights",
    "Suspect",
    "accuracy",
    "balanced_accuracy",
    "balanced_accuracy_interval",
    "class_gaps",
    "conformal_threshold",
    "confusion_matrix",
    "difference_interval",
    "expected_calibration_error",
    "fewest",
    "fit_temperature",
    "gap",
    "independent_number",
    "kendall",
    "label_errors",
    "log_loss",
    "over_seeds",
    "own_scores",
    "p_values",
    "paired_interval",
    "per_class",
    "prediction_sets",
    "reliability",
    "repeated_interval",
    "set_scores",
    "share_interval",
    "softmax",
    "wilson",
    "without_choice",
]
