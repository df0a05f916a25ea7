"""Compute at fixed intervals, as TaylorSeer and most caches do."""

from dataclasses import dataclass
from typing import ClassVar

from ..settings import number
from .base import LaneState, LimitedPolicy, Limits


class IntervalPolicy(LimitedPolicy):
    """The lane's streak says how long ago the last real evaluation was."""

    def may_draft(self, state: LaneState) -> bool:
        """Draft until the interval is over."""
        return bool(state.streak + 1 < self.limits.interval)


@dataclass(frozen=True)
class Interval(Limits):
    """After warm-up every `interval`-th call is computed.

    With verifier `none` this is TaylorSeer; any other verifier is a veto.
    """

    name = "interval"
    help = "Every n-th call is computed; the threshold only vetoes (with verifier none: TaylorSeer)"
    policy_type: ClassVar[type[LimitedPolicy]] = IntervalPolicy

    interval: int = number(
        3, 1, 50, 1, "Calls from one real evaluation to the next. 1 computes all"
    )
