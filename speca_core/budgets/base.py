"""What a budget is: who may draft, for how long, and how large an error passes.

Pure Python numbers, no tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, Protocol

from ..axis import SchedulePoint
from ..plans import Planner
from ..settings import Settings, number, switch


class Reason(str, Enum):
    """Why a row was drafted or computed. The values are part of the report's JSON."""

    DRAFT = "draft"  # the budget allows a draft
    WARMUP = "warmup"  # the first calls of a run are always computed
    WINDOW = "window"  # outside start..end
    ANCHORS = "anchors"  # too few for the forecaster or the verifier
    REPEATED = "repeated_sigma"  # this sigma was already computed, and the error of reusing it has
    # not been measured yet
    JUMP = "jump"  # the latent has left its path (fresh noise): anchors lie on another one
    LAST_STEP = "last_step"  # the protected end of the schedule
    STREAK = "max_streak"  # as many drafts in a row as allowed
    TOLERANCE = "zero_tolerance"  # nothing could pass
    BUDGET = "budget"  # the budget expects too large an error
    REJECTED = "rejected"  # drafted, verified, found too far off, computed in the same call
    BACKOFF = "backoff"  # drafts were rejected again and again: none is tried for a while
    LEARNING = "learning"  # a plain run, of which the model's profile is made
    PROFILE = "profile"  # the profile says nothing about what the model is asked now
    OTHER = "other_cache"  # another cache on the model skips what ours would skip
    MEMORY = "memory"  # memory ran out earlier in this run: nothing is kept any more
    COUPLED = "coupled"  # another row of the same image, or of the same batch, is computed


@dataclass(frozen=True)
class LaneState:
    """What a policy may know when it decides: where the call sits and how the lane stands.

    Attributes:
        point: on the schedule.
        distance: from the newest anchor, in steps.
        streak: drafts accepted since the last real evaluation.
        computed: real evaluations of this lane in this run.
        calls: calls of this lane in this run, this one not counted.
    """

    point: SchedulePoint
    distance: float
    streak: int
    computed: int
    calls: int


class LanePolicy(Protocol):
    """Decides for one lane during one run: propose, then learn from the outcome."""

    def decide(self, state: LaneState) -> Reason:
        """`Reason.DRAFT`, or why this row must be computed."""
        ...

    def tolerance(self, state: LaneState) -> float:
        """The largest estimated error that passes now; `inf` serves the draft unchecked."""
        ...

    def on_accepted(self, state: LaneState, error: float | None) -> None:
        """A draft was accepted, with the verifier's error (None: not checked)."""
        ...

    def on_surprise(self) -> None:
        """The row was computed, and the verifier is surprised at what came. `on_computed`
        follows."""
        ...

    def on_computed(self, state: LaneState, hindcast: float | None, rejected: float | None) -> None:
        """The row was computed.

        Args:
            hindcast: the measured error of the forecast that would have been served, if there was
                one.
            rejected: the verifier's error of the draft that was refused before, if one was.
        """
        ...


class Budget(Protocol):
    """Settings of a budget; `policy` makes the policy of one lane.

    Attributes:
        ignores_own_jumps: keep drafting after a jump that our own drafts have caused: the number
            of evaluations counts, not the errors.
        judges_drafts: goes by the errors of drafts, so these have to be checked.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    ignores_own_jumps: ClassVar[bool]
    judges_drafts: ClassVar[bool]

    def policy(self, threshold: float, planner: Planner | None = None) -> LanePolicy: ...

    def to_dict(self) -> dict[str, object]: ...


class LimitedPolicy:
    """A policy that keeps the limits; budgets override what they decide otherwise."""

    def __init__(self, limits: Any, threshold: float) -> None:
        self.limits = limits
        self.threshold = threshold
        self.rejections = 0  # in a row
        self.backoff = 0  # calls still to be computed without a draft

    def decide(self, state: LaneState) -> Reason:
        """Draft within the limits, if the budget would, and never if nothing could pass."""
        if self.threshold == 0:
            return Reason.TOLERANCE
        if self.backoff:
            return Reason.BACKOFF
        forbidden: Reason | None = self.limits.forbids(state)
        if forbidden:
            return forbidden
        return Reason.DRAFT if self.may_draft(state) else Reason.BUDGET

    def may_draft(self, state: LaneState) -> bool:
        """Whether the budget would draft here."""
        return True

    def tolerance(self, state: LaneState) -> float:
        return self.threshold

    def on_accepted(self, state: LaneState, error: float | None) -> None:
        """No rejection in a row any more."""
        self.rejections = 0

    def on_surprise(self) -> None:
        """Errors say the same."""

    def on_computed(self, state: LaneState, hindcast: float | None, rejected: float | None) -> None:
        """Count rejections: the more in a row, the longer the backoff."""
        self.backoff = max(0, self.backoff - 1)
        if rejected is None:
            return
        self.rejections += 1
        if 0 < self.limits.give_up <= self.rejections:
            self.backoff = self.rejections


@dataclass(frozen=True)
class Limits(Settings):
    """Settings that every budget shares, and the safety rules they stand for."""

    ignores_own_jumps: ClassVar[bool] = False
    judges_drafts: ClassVar[bool] = False
    policy_type: ClassVar[type[LimitedPolicy]] = LimitedPolicy

    warmup: int = number(3, 1, 50, 1, "Calls that are always computed at the start of a run")
    max_streak: int = number(
        6, 1, 100, 1, "Most drafts in a row. 2 computes at least every third call"
    )
    protect_last: bool = switch(True, "Always compute the last step of the schedule")
    give_up: int = number(
        4,
        0,
        100,
        1,
        "After this many rejections in a row, compute that many calls without drafting. Each "
        "further one adds a call. 0: never pause",
    )

    def policy(self, threshold: float, planner: Planner | None = None) -> LimitedPolicy:
        """The policy of one lane, in a run with or without a path model."""
        return self.policy_type(self, threshold)

    def forbids(self, state: LaneState) -> Reason | None:
        """The limit that forbids a draft now, or None."""
        if state.computed < self.warmup:
            return Reason.WARMUP
        if self.protect_last and state.point.last:
            return Reason.LAST_STEP
        if state.streak >= self.max_streak:
            return Reason.STREAK
        return None
