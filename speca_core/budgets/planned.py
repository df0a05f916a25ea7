"""Computing the turns of a plan: what budgets do in a run with a path model."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

from .base import LaneState, LimitedPolicy, Reason


class PlannedPolicy(LimitedPolicy):
    """Knows the turns to compute. A plan pays for the warm-up and the end that it needs, so there
    are no limits.

    Args:
        threshold: 0 drafts nothing.
        turns: of the sampler.
        search: finds the turns to compute, rising from 0.
        hurries: where a computed turn surprises, the way to the next one is halved.
    """

    def __init__(
        self, threshold: float, turns: int, search: Callable[[], tuple[int, ...]], hurries: bool
    ) -> None:
        super().__init__(None, threshold)
        self.turns = turns
        self._search = search
        self.hurries = hurries
        self.surprised = False
        self.due = 0  # the next turn to compute

    @cached_property
    def plan(self) -> tuple[int, ...]:
        """The turns to compute. They are searched for when turn 0, which all plans compute, is on
        its way: a GPU is at work then, and the host would wait for it."""
        return self._search()

    def decide(self, state: LaneState) -> Reason:
        """Draft until the next turn of the plan."""
        if self.threshold == 0:
            return Reason.TOLERANCE
        return Reason.DRAFT if state.point.coordinate < self.due else Reason.BUDGET

    def tolerance(self, state: LaneState) -> float:
        """Every error passes that is a number."""
        return math.inf

    def on_surprise(self) -> None:
        """Remember it until the turn is settled."""
        self.surprised = self.hurries

    def on_computed(self, state: LaneState, hindcast: float | None, rejected: float | None) -> None:
        """Find the next turn to compute."""
        turn = int(state.point.coordinate)
        self.due = next((planned for planned in self.plan if planned > turn), self.turns)
        if self.surprised:
            self.due = turn + max(1, (self.due - turn) // 2)
        self.surprised = False
