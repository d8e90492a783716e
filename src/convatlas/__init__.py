"""ConvAtlas: from a folder of images to a classifier you can trust, through the classic convolutional networks.

    >>> import convatlas
    >>> result = convatlas.fit("photos")                         # doctest: +SKIP
    >>> convatlas.load(result.bundle).predict(["new.jpg"])       # doctest: +SKIP

Everything here is imported when it is first used, so that `import convatlas` costs nothing.
"""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convatlas.analysis.analysis import Analysis
    from convatlas.bundle.classifier import Classifier
    from convatlas.bundle.load import load
    from convatlas.bundle.prediction import Prediction
    from convatlas.cards import Card, card
    from convatlas.catalogue import names
    from convatlas.data import Dataset, scan
    from convatlas.errors import ConvAtlasError
    from convatlas.jobs.analyse import analyse
    from convatlas.jobs.check import check
    from convatlas.jobs.compare import CompareResult, compare
    from convatlas.jobs.ensemble import EnsembleResult, ensemble
    from convatlas.jobs.evaluate import evaluate
    from convatlas.jobs.explain import ExplainResult, explain
    from convatlas.jobs.fields import fields
    from convatlas.jobs.fit import fit
    from convatlas.jobs.pack import pack
    from convatlas.jobs.result import EvaluateResult, FitResult
    from convatlas.jobs.sees import SeesResult, sees
    from convatlas.jobs.study import StudyResult, study
    from convatlas.jobs.train import TrainResult, train_recipe
    from convatlas.weights.load import create
    from convatlas.weights.source import weights_tags
    from convatlas.zoo.convnet import ConvNet, prefix, suffix, taps

__version__ = "0.1.0"

_HOMES = {
    "convatlas.bundle.classifier": ("Classifier",),
    "convatlas.bundle.load": ("load",),
    "convatlas.bundle.prediction": ("Prediction",),
    "convatlas.cards": ("Card", "card"),
    "convatlas.catalogue": ("names",),
    "convatlas.data": ("Dataset", "scan"),
    "convatlas.errors": ("ConvAtlasError",),
    "convatlas.analysis.analysis": ("Analysis",),
    "convatlas.jobs.analyse": ("analyse",),
    "convatlas.jobs.fields": ("fields",),
    "convatlas.jobs.check": ("check",),
    "convatlas.jobs.compare": ("CompareResult", "compare"),
    "convatlas.jobs.ensemble": ("EnsembleResult", "ensemble"),
    "convatlas.jobs.evaluate": ("evaluate",),
    "convatlas.jobs.explain": ("ExplainResult", "explain"),
    "convatlas.jobs.fit": ("fit",),
    "convatlas.jobs.pack": ("pack",),
    "convatlas.jobs.result": ("EvaluateResult", "FitResult"),
    "convatlas.jobs.sees": ("SeesResult", "sees"),
    "convatlas.jobs.study": ("StudyResult", "study"),
    "convatlas.jobs.train": ("TrainResult", "train_recipe"),
    "convatlas.weights.load": ("create",),
    "convatlas.weights.source": ("weights_tags",),
    "convatlas.zoo.convnet": ("ConvNet", "prefix", "suffix", "taps"),
}
_HOME_OF = {name: module for module, names_ in _HOMES.items() for name in names_}

__all__ = [
    "Analysis",
    "Card",
    "Classifier",
    "CompareResult",
    "ConvAtlasError",
    "ConvNet",
    "Dataset",
    "EnsembleResult",
    "EvaluateResult",
    "ExplainResult",
    "FitResult",
    "Prediction",
    "SeesResult",
    "StudyResult",
    "TrainResult",
    "analyse",
    "card",
    "check",
    "compare",
    "create",
    "ensemble",
    "evaluate",
    "explain",
    "fields",
    "fit",
    "load",
    "names",
    "pack",
    "prefix",
    "scan",
    "sees",
    "study",
    "suffix",
    "taps",
    "train_recipe",
    "weights_tags",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'convatlas' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


_imported: float | None = time.perf_counter()


def startup_seconds() -> float:
    """Seconds from the import of this package to now at the first call, 0 after that: a process starts once."""
    global _imported
    seconds = 0.0 if _imported is None else time.perf_counter() - _imported
    _imported = None
    return seconds
