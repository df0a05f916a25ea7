"""Spend a given number of evaluations: "three times as fast"."""

from dataclasses import dataclass

from ..knobs import knob
from .base import Limits, Outlook, Reason


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


class TargetLedger:
    """Remembers where warm-up ended and what the streak has spent."""

    def __init__(self, budget: Target, threshold: float) -> None:
        self.budget = budget
        self.threshold = threshold
        self.spent = 0.0
        self.began: Outlook | None = None  # first call after warm-up

    def grant(self, outlook: Outlook) -> Reason:
        """Draft until the plan says that a computation is due."""
        if self.threshold == 0:
            return Reason.TOLERANCE
        if refused := self.budget.refuse(outlook):
            return refused
        self.began = self.began or outlook
        return Reason.BUDGET if outlook.computed < self._planned(outlook) else Reason.DRAFT

    def _planned(self, outlook: Outlook) -> float:
        """Computations that should have been made before this call is answered."""
        assert self.began is not None
        done = self.began.moment.progress
        # Calls per unit of progress: one or two per step, as the sampler has it.
        rate = outlook.calls / outlook.moment.progress if outlook.moment.progress > 0 else 1.0
        total = rate / self.budget.speedup - self.budget.protect_last
        share = (outlook.moment.progress - done) / (1.0 - done)
        # Half a call early: the first of n evenly spaced computations lies in the middle of its share.
        return self.began.computed + max(0.0, total - self.began.computed) * share - 0.5

    def tolerance(self, outlook: Outlook) -> float:
        """What is left of the threshold in this streak."""
        return self.threshold - self.spent

    def served(self, outlook: Outlook, error: float | None) -> None:
        """Spend the error."""
        self.spent += error or 0.0

    def computed(self, outlook: Outlook, hindcast: float | None) -> None:
        """The streak starts anew."""
        self.spent = 0.0
