"""A streak goes on while its expected errors, judged by measured ones, stay under the threshold."""

from dataclasses import dataclass
from typing import ClassVar

from ..settings import number
from .accumulated import AccumulatedPolicy
from .base import LaneState, LimitedPolicy, Limits


class HindcastPolicy(AccumulatedPolicy):
    """Spends what is expected, not only what the verifier finds."""

    def __init__(self, budget: "Hindcast", threshold: float) -> None:
        super().__init__(budget, threshold)
        self.growth = budget.growth

    def may_draft(self, state: LaneState) -> bool:
        """Draft while the expected error fits into what is left; not before the first hindcast."""
        if self.scale is None:
            return False
        return self.spent + self._weight(state) * self.expected(state) <= self.threshold

    def on_accepted(self, state: LaneState, error: float | None) -> None:
        """Spend what was expected, or found if that is more."""
        super().on_accepted(state, max(error or 0.0, self.expected(state)))


@dataclass(frozen=True)
class Hindcast(Limits):
    """A streak's j-th draft: spent + j (20 / steps)^1.2 E (d / k)^growth <= threshold.

    E is the newest hindcast: the measured error of the forecast that would have been served at the
    last real evaluation, k steps from the anchor before it; d is the distance now. `spent` adds up
    the expected errors of the streak's drafts, or the verifier's where those are larger. So the
    model's own error scale is learnt from the run, and the verifier is a veto.
    """

    name = "hindcast"
    help = "Goes by the measured errors of earlier forecasts; the verifier is a veto"
    judges_drafts: ClassVar[bool] = True
    policy_type: ClassVar[type[LimitedPolicy]] = HindcastPolicy

    growth: float = number(
        2.5,
        0.5,
        6.0,
        0.1,
        "Exponent with which errors grow with the distance; about the forecast's order + 1",
    )
