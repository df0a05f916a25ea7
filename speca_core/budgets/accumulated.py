"""A streak goes on while the errors of its drafts, each counted by its place in the streak, add up to less than the threshold."""

import math
from dataclasses import dataclass

from .base import LimitedLedger, Limits, Outlook

STEPS = 20  # in a schedule of so many steps the error of a streak's first draft counts as it is
FINENESS = 1.2  # exponent with which errors count less in a finer schedule
GROWTH = 2.0  # exponent with which errors grow with the distance
HOPE = 2.0  # a draft is tried although its error is expected to be so many times too large
DOUBT = 2.0  # what the verifier says counts so many times, until a forecast of the lane has been scored


@dataclass(frozen=True)
class Accumulated(Limits):
    """sum over the streak's drafts, j = 1, 2, ..., of j (20 / steps)^1.2 error_j <= threshold.

    A sampler adds up what it is served, so errors of one streak add up too; testing each draft alone lets long streaks drift. The longer a
    streak, the further from its path is the latent where the next anchor is computed, and the less can hindsight take back: measured, an
    error does harm in proportion to its place in the streak. In a finer schedule a step moves the latent less, and the same stretch of the
    schedule is a longer streak: j / steps is the share of the schedule that is drafted; measured, a little more than that makes errors
    alike (docs/adr/0010-place-in-the-streak.md). Features set out slowly, and what the verifier says of the first drafts is a fifth to a
    half of the truth: until a forecast has been scored, it counts twice (docs/adr/0009-one-threshold.md). A draft that is expected to be
    more than twice too far off is not tried (docs/adr/0008-jumps.md).
    """

    name = "accumulated"
    help = "The errors of a streak, added up, stay under the threshold"

    def ledger(self, threshold: float) -> "AccumulatedLedger":
        """An account with this rule."""
        return AccumulatedLedger(self, threshold)


def weight(place: int, steps: int) -> float:
    """What an error counts in an account: by its place in the streak (the first is 1), less in a schedule of more steps."""
    share: float = (STEPS / steps) ** FINENESS
    return place * share


class AccumulatedLedger(LimitedLedger):
    """Remembers what the streak has spent, and how large an error is to be expected."""

    growth = GROWTH

    def __init__(self, limits: Limits, threshold: float) -> None:
        super().__init__(limits, threshold)
        self.spent = 0.0
        self.scale: float | None = None  # error of a forecast at a distance of one step, by the newest hindcast
        self.ratio = 0.0  # the verifier's estimate of the newest rejected draft, over what it was really off by; until then all are tried

    def wants(self, outlook: Outlook) -> bool:
        """Draft while something is left, unless the verifier is sure to refuse: such a draft only costs time."""
        refused = self._weight(outlook) * self.ratio * self.expected(outlook)
        return self.spent < self.threshold and self.spent + refused <= HOPE * self.threshold

    def tolerance(self, outlook: Outlook) -> float:
        """The error that would spend what is left."""
        return (self.threshold - self.spent) / self._weight(outlook)

    def served(self, outlook: Outlook, error: float | None) -> None:
        """Spend the error; a draft that nobody checked spends nothing."""
        super().served(outlook, error)
        self.spent += self._weight(outlook) * (error or 0.0)

    def computed(self, outlook: Outlook, hindcast: float | None, rejected: float | None) -> None:
        """The account starts anew; the error scale is learnt."""
        super().computed(outlook, hindcast, rejected)
        self.spent = 0.0
        if hindcast is not None and math.isfinite(hindcast) and outlook.distance > 0:
            self.scale = hindcast / outlook.distance**self.growth
            if hindcast > 0 and rejected is not None and math.isfinite(rejected):
                self.ratio = rejected / hindcast

    def expected(self, outlook: Outlook) -> float:
        """What a forecast will really be off by: E (d / k)^growth; E is the newest hindcast, at the distance k, and d the distance now."""
        expected: float = (self.scale or 0.0) * max(outlook.distance, 0.0) ** self.growth
        return expected

    def _weight(self, outlook: Outlook) -> float:
        """What the verifier's errors count."""
        return weight(outlook.streak + 1, outlook.moment.steps) * (DOUBT if self.scale is None else 1.0)
