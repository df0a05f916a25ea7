"""Spend a given number of evaluations: "three times as fast"."""

import math
from dataclasses import dataclass
from typing import ClassVar

from ..knobs import knob
from .base import LimitedLedger, Limits, Outlook

EPSILON = 1e-6  # so that rounding does not go this way at one call and that way at the next


@dataclass(frozen=True)
class Target(Limits):
    """Computes one call in `speedup`, evenly over what is left behind the first calls, whatever the threshold.

    From the first draft on a call is due as soon as the lane has computed fewer calls than its plan says at this progress. Evenly spaced
    is the best that was found: the error of a forecast grows so fast with its distance that a computation brought forward, where the
    verifier is worried, costs more in the long streak after it than it saves (docs/adr/0009-one-threshold.md). Errors are recorded, not
    judged, and a jump that drafts have made stops nothing: only fresh noise does.
    """

    name = "target"
    help = "A wanted speed-up in evaluations, met whatever the errors are; the threshold is not used"
    presses_on: ClassVar[bool] = True

    speedup: float = knob(2.0, 1.0, 10.0, 0.1, "Evaluations of the plain model per computed one; the clock gains a little less")
    max_streak: int = knob(8, 1, 100, 1, "Most drafts in a row, in calls")

    def ledger(self, threshold: float) -> "TargetLedger":
        """An account with this rule."""
        return TargetLedger(self, threshold)


class TargetLedger(LimitedLedger):
    """Remembers where the calls ended that had to be computed."""

    def __init__(self, budget: Target, threshold: float) -> None:
        super().__init__(budget, threshold)
        self.budget = budget
        self.began: Outlook | None = None  # the last call before the first draft

    def wants(self, outlook: Outlook) -> bool:
        """Draft until the plan says that a computation is due."""
        if self.began is None or outlook.computed == outlook.calls:
            self.began = outlook
        return outlook.computed >= self._planned(self.began, outlook)

    def tolerance(self, outlook: Outlook) -> float:
        """Every error passes that is a number."""
        return math.inf

    def _planned(self, began: Outlook, now: Outlook) -> int:
        """Computations due when this call is answered, evenly spaced between the first draft and the protected end.

        Where they cannot be evenly spaced the first streak is one of the shorter ones: features are least settled there.
        """
        progress = now.moment.progress
        if progress <= 0:
            return began.computed
        rate = now.calls / progress  # calls per unit of progress: one or two per step, as the sampler has it
        protected = self.budget.protect_last / now.moment.steps
        left = max(0, round(rate * (1 / self.budget.speedup - protected) - EPSILON) - began.computed)
        start = began.moment.progress - 1 / rate
        gap = rate * max(1 - protected - start, EPSILON) / (left + 1)  # calls from one computation to the next
        ahead = gap - math.floor(gap + EPSILON)
        return began.computed + min(left, math.floor((rate * (progress - start) + ahead) / gap + EPSILON))
