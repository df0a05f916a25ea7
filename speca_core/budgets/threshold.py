"""SpeCa's budget: an estimated error passes up to tau0 * beta^progress (arXiv 2509.11628)."""

import math
from dataclasses import dataclass
from typing import ClassVar

from ..settings import number, switch
from .base import LaneState, LimitedPolicy, Limits


class ThresholdPolicy(LimitedPolicy):
    """Remembers only whether an accepted draft had failed, which `deferred` allows."""

    failed = False

    def may_draft(self, state: LaneState) -> bool:
        """Draft, unless the draft before turned out bad."""
        return not self.failed

    def tolerance(self, state: LaneState) -> float:
        """The rule; no limit for the first `min_streak` drafts, and for a deferred verdict."""
        unchecked = self._unchecked(state) or self.limits.deferred
        return math.inf if unchecked else self._rule(state)

    def on_accepted(self, state: LaneState, error: float | None) -> None:
        """Judge a deferred draft now; not so the first `min_streak` ones."""
        super().on_accepted(state, error)
        checked = error is not None and not self._unchecked(state)
        self.failed = checked and (error or 0.0) > self._rule(state)

    def on_computed(self, state: LaneState, hindcast: float | None, rejected: float | None) -> None:
        """Start a new streak."""
        super().on_computed(state, hindcast, rejected)
        self.failed = False

    def _unchecked(self, state: LaneState) -> bool:
        return bool(state.streak < self.limits.min_streak)

    def _rule(self, state: LaneState) -> float:
        share: float = max(self.limits.decay**state.point.progress, self.limits.floor)
        return self.threshold * share


@dataclass(frozen=True)
class Threshold(Limits):
    """tolerance(progress) = threshold * max(decay^progress, floor).

    `threshold` is the node's slider (the paper's tau0), `decay` the paper's beta: below 1 the
    tolerance tightens towards the end. The floor is a share of the threshold (in the released code
    it is absolute), so that threshold 0 always means the plain model.
    """

    name = "threshold"
    help = "SpeCa's rule: each draft may be off by threshold * decay^progress"
    judges_drafts: ClassVar[bool] = True
    policy_type: ClassVar[type[LimitedPolicy]] = ThresholdPolicy

    decay: float = number(
        0.5,
        0.01,
        10.0,
        0.01,
        "Tolerance at the end relative to the start (the paper's beta). Below 1: stricter late",
    )
    floor: float = number(0.1, 0.0, 1.0, 0.01, "Smallest tolerance, as a share of the threshold")
    min_streak: int = number(
        0, 0, 20, 1, "Drafts served unchecked after each real evaluation. 0 checks every draft"
    )
    deferred: bool = switch(
        False, "Serve a draft that failed and compute the next call instead, as SpeCa's code does"
    )
