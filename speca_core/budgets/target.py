"""Spend a given number of evaluations: "three times as fast"."""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from ..plans import Planner
from ..settings import number
from .base import LaneState, LimitedPolicy, Limits
from .planned import PlannedPolicy

EPSILON = 1e-6  # so that rounding does not go this way at one call and that way at the next


class TargetPolicy(LimitedPolicy):
    """Remembers where the calls ended that had to be computed."""

    def __init__(self, budget: "Target", threshold: float) -> None:
        super().__init__(budget, threshold)
        self.budget = budget
        self.began: LaneState | None = None  # at the last call before the first draft

    def may_draft(self, state: LaneState) -> bool:
        """Draft until the plan says that an evaluation is due."""
        if self.began is None or state.computed == state.calls:
            self.began = state
        return state.computed >= self._planned(self.began, state)

    def tolerance(self, state: LaneState) -> float:
        """Every error passes that is a number."""
        return math.inf

    def _planned(self, began: LaneState, now: LaneState) -> int:
        """Evaluations due when this call is answered, evenly spaced between the first draft and the
        protected end.

        Where they cannot be evenly spaced the first streak is one of the shorter ones: features are
        least settled there.
        """
        progress = now.point.progress
        if progress <= 0:
            return began.computed
        rate = now.calls / progress  # calls per unit of progress: one or two per step
        protected = self.budget.protect_last / now.point.steps
        wanted = round(rate * (1 / self.budget.speedup - protected) - EPSILON)
        left = max(0, wanted - began.computed)
        start = began.point.progress - 1 / rate
        # Calls from one evaluation to the next.
        gap = rate * max(1 - protected - start, EPSILON) / (left + 1)
        ahead = gap - math.floor(gap + EPSILON)
        due = math.floor((rate * (progress - start) + ahead) / gap + EPSILON)
        return began.computed + min(left, due)


@dataclass(frozen=True)
class Target(Limits):
    """Computes one call in `speedup`, evenly over what is left after the first calls.

    From the first draft on a call is due as soon as the lane has computed fewer calls than its plan
    says at this progress. Evenly spaced is the best that was found: an evaluation brought forward,
    where the verifier is worried, costs more in the long streak after it than it saves (ADR 9).
    Errors are recorded, not judged, and a jump that our own drafts have caused stops nothing: only
    fresh noise does.
    """

    name = "target"
    help = "A wanted speed-up in evaluations, whatever the errors; a threshold above 0 is not used"
    ignores_own_jumps: ClassVar[bool] = True
    policy_type: ClassVar[type[LimitedPolicy]] = TargetPolicy

    speedup: float = number(
        2.0, 1.0, 10.0, 0.1, "Evaluations of the plain model per real one; the clock gains less"
    )
    max_streak: int = number(8, 1, 100, 1, "Most drafts in a row")

    def policy(self, threshold: float, planner: Planner | None = None) -> LimitedPolicy:
        """The policy of one lane: with a path model, its best plan, which needs no limits."""
        if planner is None:
            return super().policy(threshold)
        search = partial(planner.plan, max(1, round(planner.turns / self.speedup)))
        return PlannedPolicy(threshold, planner.turns, search, hurries=False)
