"""A streak goes on while the errors of its drafts, added up, stay under the threshold."""

from dataclasses import dataclass

from .base import Limits, Outlook, Reason


@dataclass(frozen=True)
class Accumulated(Limits):
    """tolerance = threshold - sum of the errors served since the last full computation.

    A sampler adds up what it is served, so errors of one streak add up too; testing each draft alone lets long streaks drift. The
    relative error of the output is weighted alike at every step: measured, the final picture is about equally sensitive everywhere.
    """

    name = "accumulated"
    help = "The errors of a streak, added up, stay under the threshold"

    def ledger(self, threshold: float) -> "AccumulatedLedger":
        """An account with this rule."""
        return AccumulatedLedger(self, threshold)


class AccumulatedLedger:
    """Remembers what the streak has spent."""

    def __init__(self, budget: Accumulated, threshold: float) -> None:
        self.budget = budget
        self.threshold = threshold
        self.spent = 0.0

    def grant(self, outlook: Outlook) -> Reason:
        """Draft within the limits, unless nothing is left."""
        if self.threshold == 0:
            return Reason.TOLERANCE
        if refused := self.budget.refuse(outlook):
            return refused
        return Reason.BUDGET if self.spent >= self.threshold else Reason.DRAFT

    def tolerance(self, outlook: Outlook) -> float:
        """What is left."""
        return self.threshold - self.spent

    def served(self, outlook: Outlook, error: float | None) -> None:
        """Spend the error; a draft that nobody checked spends nothing."""
        self.spent += error or 0.0

    def computed(self, outlook: Outlook, hindcast: float | None) -> None:
        """The account starts anew."""
        self.spent = 0.0
