"""A streak goes on while the errors of its drafts, added up, stay under the threshold."""

from dataclasses import dataclass

from .base import LimitedLedger, Limits, Outlook


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


class AccumulatedLedger(LimitedLedger):
    """Remembers what the streak has spent."""

    spent = 0.0

    def wants(self, outlook: Outlook) -> bool:
        """Draft while something is left."""
        return self.spent < self.threshold

    def tolerance(self, outlook: Outlook) -> float:
        """What is left."""
        return self.threshold - self.spent

    def served(self, outlook: Outlook, error: float | None) -> None:
        """Spend the error; a draft that nobody checked spends nothing."""
        super().served(outlook, error)
        self.spent += error or 0.0

    def computed(self, outlook: Outlook, hindcast: float | None, rejected: bool) -> None:
        """The account starts anew."""
        super().computed(outlook, hindcast, rejected)
        self.spent = 0.0
