"""What a fit says of the plans it weighed, as JSON; needs no torch."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from convatlas.transfer.advise import Advice, Verdict

if TYPE_CHECKING:
    from convatlas.transfer.workshop import Trained


def advice_json(advice: Advice) -> dict[str, Any]:
    """Every plan with what it was foretold to cost, what it reached on held-out training images, and why it is not the one."""
    return {
        "chosen": str(advice.chosen),
        "reason": advice.reason,
        "budget": advice.budget,
        "spent": advice.spent,
        "plans": [_row(verdict, verdict.plan == advice.chosen) for verdict in advice.verdicts],
    }


def _row(verdict: Verdict, chosen: bool) -> dict[str, Any]:
    found = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(verdict).items()}
    return {**found, "plan": str(verdict.plan), "words": verdict.plan.words, "chosen": chosen}


def training_json(trained: Trained) -> dict[str, Any]:
    """How the network that was handed out was trained."""
    return {
        "config": asdict(trained.settings.config),
        "norms": trained.settings.norms,
        "views": trained.settings.views,
        "maps": trained.settings.maps,
        "audited": trained.audited,
        "losses": list(trained.losses),
        "seconds": trained.seconds,
    }
