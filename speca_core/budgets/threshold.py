"""SpeCa's budget: a draft passes while its estimated error is at most tau0 * beta^progress (arXiv 2509.11628)."""

from dataclasses import dataclass

from ..knobs import knob
from .base import LimitedLedger, Limits, Outlook


@dataclass(frozen=True)
class Threshold(Limits):
    """tolerance(progress) = threshold * max(decay^progress, floor).

    `threshold` is the node's slider (the paper's tau0), `decay` the paper's beta: below 1 the tolerance tightens towards the end.
    The floor is a fraction of the threshold (the released code has an absolute one), so that threshold 0 always means the plain model.
    """

    name = "threshold"
    help = "SpeCa's rule: each draft may be off by threshold * decay^progress"

    decay: float = knob(0.5, 0.01, 10.0, 0.01, "Tolerance at the end relative to the start (the paper's beta). Below 1: stricter late")
    floor: float = knob(0.1, 0.0, 1.0, 0.01, "Smallest tolerance, as a fraction of the threshold")
    min_streak: int = knob(0, 0, 20, 1, "Drafts served unchecked after each full computation, in calls. 0 checks every draft")

    deferred: int = knob(0, 0, 1, 1, "1: serve a draft that failed and compute the next call instead, as SpeCa's released code does")

    def ledger(self, threshold: float) -> "ThresholdLedger":
        """An account with this rule."""
        return ThresholdLedger(self, threshold)


class ThresholdLedger(LimitedLedger):
    """Remembers only whether a served draft had failed, which `deferred` allows."""

    failed = False

    def __init__(self, budget: Threshold, threshold: float) -> None:
        super().__init__(budget, threshold)
        self.budget = budget

    def wants(self, outlook: Outlook) -> bool:
        """Draft, unless the draft before turned out bad."""
        return not self.failed

    def tolerance(self, outlook: Outlook) -> float:
        """The rule above; unchecked for the first `min_streak` drafts of a streak, and where the verdict is deferred."""
        return float("inf") if self._unchecked(outlook) or self.budget.deferred else self._rule(outlook)

    def served(self, outlook: Outlook, error: float | None) -> None:
        """Deferred, a draft is judged now; the first `min_streak` drafts are not looked at either."""
        super().served(outlook, error)
        self.failed = error is not None and not self._unchecked(outlook) and error > self._rule(outlook)

    def computed(self, outlook: Outlook, hindcast: float | None, rejected: float | None) -> None:
        """The streak starts anew."""
        super().computed(outlook, hindcast, rejected)
        self.failed = False

    def _unchecked(self, outlook: Outlook) -> bool:
        return outlook.streak < self.budget.min_streak

    def _rule(self, outlook: Outlook) -> float:
        share: float = max(self.budget.decay**outlook.moment.progress, self.budget.floor)
        return self.threshold * share
