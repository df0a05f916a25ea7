"""What a budget is: who may draft, how long, and how large an error passes. Pure Python numbers, no tensors."""

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Protocol

from ..knobs import Settings, knob
from ..schedule import Moment


class Reason(str, Enum):
    """Why a row was drafted or computed. The values are part of the report's JSON."""

    DRAFT = "draft"  # the budget grants a draft
    WARMUP = "warmup"  # the first calls of a run are always computed
    WINDOW = "window"  # outside start..end
    ANCHORS = "anchors"  # too few anchors for the forecaster
    REPEATED = "repeated_sigma"  # an anchor lies at this very place, and what it would be off by here has not been measured yet
    JUMP = "jump"  # the latent has left its path (fresh noise): anchors lie on another one
    LAST_STEP = "last_step"  # the protected end of the schedule
    STREAK = "max_streak"  # as many drafts in a row as allowed
    TOLERANCE = "zero_tolerance"  # nothing could pass
    BUDGET = "budget"  # the budget expects too large an error
    REJECTED = "rejected"  # drafted, verified, found too far off, computed in the same call
    RESTING = "resting"  # drafts were rejected again and again: none is tried for a while
    MEMORY = "memory"  # memory ran out earlier in this run: nothing is kept any more
    JOINT = "joint"  # another branch (cond or uncond) of the same image is computed


@dataclass(frozen=True)
class Outlook:
    """What a ledger may know when it is asked: where the call sits and how the lane stands."""

    moment: Moment
    distance: float  # steps since the newest anchor
    streak: int  # drafts served since the last full computation
    computed: int  # full computations of this lane in this run
    calls: int  # calls of this lane in this run, this one not counted


class Ledger(Protocol):
    """The account of one lane during one run."""

    def grant(self, outlook: Outlook) -> Reason:
        """`Reason.DRAFT`, or why this row must be computed."""
        ...

    def tolerance(self, outlook: Outlook) -> float:
        """The largest estimated error that passes now; `inf` serves the draft unchecked."""
        ...

    def served(self, outlook: Outlook, error: float | None) -> None:
        """A draft was accepted, with the verifier's error (None: not checked)."""
        ...

    def computed(self, outlook: Outlook, hindcast: float | None, rejected: float | None) -> None:
        """The row was computed.

        Args:
            hindcast: the measured error of the forecast it would have been served, where there was one.
            rejected: the verifier's error of the draft that was tried and refused before; None if none was.
        """
        ...


class Budget(Protocol):
    """Settings of a policy; `ledger` opens an account for one lane."""

    name: ClassVar[str]
    help: ClassVar[str]
    presses_on: ClassVar[bool]  # drafts go on where the latent jumps because of drafts: the number counts, not the errors

    def ledger(self, threshold: float) -> Ledger: ...

    def to_dict(self) -> dict[str, object]: ...


@dataclass(frozen=True)
class Limits(Settings):
    """Knobs that every budget shares, and the safety rules they stand for."""

    presses_on: ClassVar[bool] = False

    warmup: int = knob(3, 1, 50, 1, "Calls computed in full at the start of a run, in calls")
    max_streak: int = knob(6, 1, 100, 1, "Most drafts in a row, in calls. 2 computes at least every third call")
    protect_last: int = knob(1, 0, 1, 1, "1: always compute the last step of the schedule, 0: allow a draft there")
    give_up: int = knob(4, 0, 100, 1, "Rejections in a row after which as many calls are computed without trying. 0 always tries")

    def refuse(self, outlook: Outlook) -> Reason | None:
        """The limit that forbids a draft now, or None."""
        if outlook.computed < self.warmup:
            return Reason.WARMUP
        if self.protect_last and outlook.moment.last:
            return Reason.LAST_STEP
        if outlook.streak >= self.max_streak:
            return Reason.STREAK
        return None


class LimitedLedger:
    """A ledger that keeps the limits; budgets override what they decide otherwise."""

    def __init__(self, limits: Limits, threshold: float) -> None:
        self.limits = limits
        self.threshold = threshold
        self.rejections = 0  # in a row
        self.rest = 0  # calls still to be computed without a draft

    def grant(self, outlook: Outlook) -> Reason:
        """Draft within the limits, if the budget wants to, and never where nothing could pass."""
        if self.threshold == 0:
            return Reason.TOLERANCE
        if self.rest:
            return Reason.RESTING
        return self.limits.refuse(outlook) or (Reason.DRAFT if self.wants(outlook) else Reason.BUDGET)

    def wants(self, outlook: Outlook) -> bool:
        """Whether the budget would draft here."""
        return True

    def tolerance(self, outlook: Outlook) -> float:
        """The threshold."""
        return self.threshold

    def served(self, outlook: Outlook, error: float | None) -> None:
        """The row of rejections is over."""
        self.rejections = 0

    def computed(self, outlook: Outlook, hindcast: float | None, rejected: float | None) -> None:
        """Count rejections: the more in a row, the longer the rest."""
        self.rest = max(0, self.rest - 1)
        if rejected is None:
            return
        self.rejections += 1
        if 0 < self.limits.give_up <= self.rejections:
            self.rest = self.rejections
