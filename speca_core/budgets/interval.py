"""Compute at fixed intervals, as TaylorSeer and most caches do."""

from dataclasses import dataclass

from ..knobs import knob
from .base import LimitedLedger, Limits, Outlook


@dataclass(frozen=True)
class Interval(Limits):
    """After warm-up every `interval`-th call is computed. With verifier `none` this is TaylorSeer; with another it is a veto."""

    name = "interval"
    help = "Every n-th call is computed; the threshold only vetoes (with verifier none: TaylorSeer)"

    interval: int = knob(3, 1, 50, 1, "Calls from one full computation to the next. 1 computes all")

    def ledger(self, threshold: float) -> "IntervalLedger":
        """An account with this rule."""
        return IntervalLedger(self, threshold)


class IntervalLedger(LimitedLedger):
    """The lane's streak says how long ago the last full computation was."""

    def __init__(self, budget: Interval, threshold: float) -> None:
        super().__init__(budget, threshold)
        self.interval = budget.interval

    def wants(self, outlook: Outlook) -> bool:
        """Draft until the interval is over."""
        return outlook.streak + 1 < self.interval
