"""Compute at fixed intervals, as TaylorSeer and most caches do."""

from dataclasses import dataclass

from ..knobs import knob
from .base import Limits, Outlook, Reason


@dataclass(frozen=True)
class Interval(Limits):
    """After warm-up every `interval`-th call is computed. With verifier `none` this is TaylorSeer; with another it is a veto."""

    name = "interval"
    help = "Every n-th call is computed; the threshold only vetoes (with verifier none: TaylorSeer)"

    interval: int = knob(3, 1, 50, 1, "Calls from one full computation to the next. 1 computes all")

    def ledger(self, threshold: float) -> "IntervalLedger":
        """An account with this rule."""
        return IntervalLedger(self, threshold)


class IntervalLedger:
    """Stateless: the lane's streak says how long ago the last full computation was."""

    def __init__(self, budget: Interval, threshold: float) -> None:
        self.budget = budget
        self.threshold = threshold

    def grant(self, outlook: Outlook) -> Reason:
        """Draft until the interval is over."""
        if self.threshold == 0:
            return Reason.TOLERANCE
        if refused := self.budget.refuse(outlook):
            return refused
        return Reason.BUDGET if outlook.streak + 1 >= self.budget.interval else Reason.DRAFT

    def tolerance(self, outlook: Outlook) -> float:
        """The same threshold everywhere."""
        return self.threshold

    def served(self, outlook: Outlook, error: float | None) -> None:
        """Nothing to remember."""

    def computed(self, outlook: Outlook, hindcast: float | None) -> None:
        """Nothing to remember."""
