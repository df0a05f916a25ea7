"""A streak goes on while the error that its drafts will have, judged by what forecasts were really off by, stays under the threshold."""

from dataclasses import dataclass

from ..knobs import knob
from .accumulated import AccumulatedLedger
from .base import Limits, Outlook


@dataclass(frozen=True)
class Hindcast(Limits):
    """Draft while   spent + j (20 / steps)^1.2 E (d / k)^growth <= threshold   for the j-th draft of a streak.

    E is the newest hindcast: the measured error of the forecast that would have been served at the last full computation, k steps from
    the anchor before it; d is the distance now. `spent` adds up what the streak's drafts were expected to be off by, or what the
    verifier found where that is more. The model's own error scale is learnt from the run; the verifier, if there is one, is a veto.
    """

    name = "hindcast"
    help = "Goes by what forecasts were really off by at the last computed calls; the verifier is a veto"

    growth: float = knob(2.5, 0.5, 6.0, 0.1, "Exponent with which the error grows with the distance; about the forecast's order + 1")

    def ledger(self, threshold: float) -> "HindcastLedger":
        """An account with this rule."""
        return HindcastLedger(self, threshold)


class HindcastLedger(AccumulatedLedger):
    """Spends what is expected, not only what the verifier finds."""

    def __init__(self, budget: Hindcast, threshold: float) -> None:
        super().__init__(budget, threshold)
        self.growth = budget.growth

    def wants(self, outlook: Outlook) -> bool:
        """Draft while the expected error fits into what is left; before the first hindcast nothing is known, and nothing drafted."""
        return self.scale is not None and self.spent + self._weight(outlook) * self.expected(outlook) <= self.threshold

    def served(self, outlook: Outlook, error: float | None) -> None:
        """Spend what was expected, or found if that is more."""
        super().served(outlook, max(error or 0.0, self.expected(outlook)))
