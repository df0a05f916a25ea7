"""A streak goes on while its drafts' errors, weighted by place, stay under the threshold."""

import math
from dataclasses import dataclass
from typing import ClassVar

from .base import LaneState, LimitedPolicy, Limits

STEPS = 20  # schedule in which the error of a streak's first draft counts as it is
STEPS_EXPONENT = 1.2  # with which errors count less in a finer schedule
GROWTH = 2.0  # exponent with which errors grow with the distance
TRY_UP_TO = 2.0  # a draft is tried if its expected error is at most so many times too large
UNCALIBRATED_FACTOR = 2.0  # multiplies the verifier's error until the lane's first hindcast


def weight(place: int, steps: int) -> float:
    """What an error counts: by its place in the streak (from 1), less in a longer schedule."""
    share: float = (STEPS / steps) ** STEPS_EXPONENT
    return place * share


class AccumulatedPolicy(LimitedPolicy):
    """Remembers what the streak has spent, and how large an error to expect."""

    growth = GROWTH

    def __init__(self, limits: Limits, threshold: float) -> None:
        super().__init__(limits, threshold)
        self.spent = 0.0
        # Error of a forecast at a distance of one step, by the newest hindcast.
        self.scale: float | None = None
        # The verifier's error of the newest rejected draft over its true one; 0: none was yet.
        self.ratio = 0.0

    def may_draft(self, state: LaneState) -> bool:
        """Draft while something is left, unless the verifier is sure to refuse: such a draft only
        costs time."""
        refused = self._weight(state) * self.ratio * self.expected(state)
        return self.spent < self.threshold and self.spent + refused <= TRY_UP_TO * self.threshold

    def tolerance(self, state: LaneState) -> float:
        """The error that would spend what is left."""
        return (self.threshold - self.spent) / self._weight(state)

    def on_accepted(self, state: LaneState, error: float | None) -> None:
        """Spend the error; a draft that nobody checked spends nothing."""
        super().on_accepted(state, error)
        self.spent += self._weight(state) * (error or 0.0)

    def on_computed(self, state: LaneState, hindcast: float | None, rejected: float | None) -> None:
        """Start a new streak, and learn the error scale."""
        super().on_computed(state, hindcast, rejected)
        self.spent = 0.0
        if hindcast is not None and math.isfinite(hindcast) and state.distance > 0:
            self.scale = hindcast / state.distance**self.growth
            if hindcast > 0 and rejected is not None and math.isfinite(rejected):
                self.ratio = rejected / hindcast

    def expected(self, state: LaneState) -> float:
        """The true error to expect: E (d / k)^growth, with E the newest hindcast, at the distance
        k, and d the distance now."""
        expected: float = (self.scale or 0.0) * max(state.distance, 0.0) ** self.growth
        return expected

    def _weight(self, state: LaneState) -> float:
        """What the verifier's errors count."""
        unsure = UNCALIBRATED_FACTOR if self.scale is None else 1.0
        return weight(state.streak + 1, state.point.steps) * unsure


@dataclass(frozen=True)
class Accumulated(Limits):
    """sum over the streak's drafts, j = 1, 2, ..., of j (20 / steps)^1.2 error_j <= threshold.

    A sampler adds up what it is served, so the errors of one streak add up, too; testing each draft
    alone lets long streaks drift. The later a draft in its streak, the further the latent is from
    its path where the next anchor is computed, and the less hindsight can take back: an error does
    harm in proportion to its place. In a longer schedule each step moves the latent less (ADR 10).
    The verifier sees a fifth to a half of a first draft's true error: until a forecast has been
    scored, its word counts twice (ADR 9). A draft is not tried if its expected error is more than
    twice too large (ADR 8).
    """

    name = "accumulated"
    help = "The errors of consecutive drafts, added up, stay under the threshold"
    judges_drafts: ClassVar[bool] = True
    policy_type: ClassVar[type[LimitedPolicy]] = AccumulatedPolicy
