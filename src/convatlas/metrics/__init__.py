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
from convatlas.metrics.confusion import (
    ClassRow,
    accuracy,
    balanced_accuracy,
    balanced_accuracy_interval,
    confusion_matrix,
    per_class,
)
from convatlas.metrics.intervals import wilson

__all__ = [
    "Bin",
    "ClassRow",
    "accuracy",
    "balanced_accuracy",
    "balanced_accuracy_interval",
    "confusion_matrix",
    "expected_calibration_error",
    "fit_temperature",
    "log_loss",
    "per_class",
    "reliability",
    "softmax",
    "wilson",
]
