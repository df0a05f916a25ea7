"""Spend a given number of evaluations: "three times as fast"."""

import math
from dataclasses import dataclass

from ..knobs import knob
from .accumulated import AccumulatedLedger
from .base import Limits, Outlook

EPSILON = 1e-6  # so that rounding does not go this way at one call and that way at the next


@dataclass(frozen=True)
class Target(Limits):
    """Computes one call in `speedup`, evenly over what is left after warm-up; the verifier moves them where they are needed.

    After warm-up a call is due as soon as the lane has computed fewer calls than its plan says at this progress. A draft whose streak's
    errors add up to more than the threshold is computed early; the plan then waits longer for the next one, so the count is kept. Evenly
    spaced is close to the best there is: the error of a forecast grows so fast with its distance that long streaks lose more than short
    ones save.
    """

    name = "target"
    help = "A wanted speed-up in evaluations, met exactly; drafts over the threshold are computed early"

    speedup: float = knob(2.0, 1.0, 10.0, 0.1, "Evaluations of the plain model per computed one; the clock gains a little less")
    max_streak: int = knob(8, 1, 100, 1, "Most drafts in a row, in calls")

    def ledger(self, threshold: float) -> "TargetLedger":
        """An account with this rule."""
        return TargetLedger(self, threshold)


class TargetLedger(AccumulatedLedger):
    """Remembers, besides what the streak has spent, where warm-up ended."""

    def __init__(self, budget: Target, threshold: float) -> None:
        super().__init__(budget, threshold)
        self.budget = budget
        self.began: Outlook | None = None  # first call after warm-up

    def wants(self, outlook: Outlook) -> bool:
        """Draft until the plan says that a computation is due."""
        self.began = self.began or outlook
        return outlook.computed >= self._planned(self.began, outlook)

    def _planned(self, began: Outlook, now: Outlook) -> int:
        """Computations that should have been made when this call is answered, evenly spaced between warm-up and the protected end."""
        progress = now.moment.progress
        if progress <= 0:
            return began.computed
        rate = now.calls / progress  # calls per unit of progress: one or two per step, as the sampler has it
        protected = self.budget.protect_last / now.moment.steps
        left = max(0, round(rate * (1 / self.budget.speedup - protected) - EPSILON) - began.computed)
        start = began.moment.progress - 1 / rate
        share = (progress - start) / max(1 - protected - start, 1e-6)
        return began.computed + min(left, math.floor(share * (left + 1) + EPSILON))
