"""A lane: one batch row's own history and policy."""

from collections.abc import Sequence

import torch

from .anchors import HEAD_INPUT, FeatureHistory
from .axis import SchedulePoint
from .budgets import LanePolicy, LaneState, Reason
from .courses import WINDOW

START = "start"  # a tap of runs with a path model: the latent at the first turn


class Lane:
    """What a run knows about one row, from call to call.

    Attributes:
        index: in order of appearance. image: index in the batch.
        policy: decides on drafts; the budget's.
        histories: anchors by tap.
        streak: drafts accepted since the last real evaluation.
        computed, calls: evaluations and calls so far.
        seen, drafted: number of the last prediction that it took part in, or was drafted in.
        turns: of the sampler, at which the row was computed; in runs with a path model.
        revisit_error: measured error of the forecast the last time that the sampler came back to a
            place of an anchor, as Heun's second call does. None: not known yet.
    """

    def __init__(self, policy: LanePolicy, index: int, image: int) -> None:
        self.policy = policy
        self.index = index
        self.image = image
        self.histories: dict[str, FeatureHistory] = {}
        self.streak = 0
        self.computed = 0
        self.calls = 0
        self.seen = 0
        self.drafted = -1
        self.turns: tuple[int, ...] = ()
        self.revisit_error: float | None = None

    @property
    def head_input(self) -> FeatureHistory | None:
        """Anchors of the head's input; None before the first real evaluation."""
        return self.histories.get(HEAD_INPUT)

    def state(self, point: SchedulePoint) -> LaneState:
        """What the policy may know of a call at `point`."""
        newest = self.head_input.coordinates[-1] if self.head_input else point.coordinate
        distance = point.coordinate - newest
        return LaneState(point, distance, self.streak, self.computed, self.calls)

    @property
    def on_course(self) -> bool:
        """Whether the lane reaches back to the first turn, so that a path model serves it."""
        return START in self.histories and self.head_input is not None

    @property
    def course(self) -> Sequence[torch.Tensor]:
        """What a path model's weights are for, where the lane is on course: the first latent, and
        the newest computed slopes."""
        start, slopes = self.histories[START], self.histories[HEAD_INPUT]
        return *start.at_hand(1), *slopes.at_hand(WINDOW)

    def revisits(self, point: SchedulePoint) -> bool:
        """Whether an anchor lies at this very place. Then it is the forecast, and no check sees
        anything: what it was off by the last time counts."""
        return self.head_input is not None and self.head_input.has(point.coordinate)

    def no_forecast(self, point: SchedulePoint, min_anchors: int) -> Reason | None:
        """Why there is nothing to forecast from; None if there is."""
        if self.head_input is None or len(self.head_input.anchors) < min_anchors:
            return Reason.ANCHORS
        unknown = self.revisits(point) and self.revisit_error is None
        return Reason.REPEATED if unknown else None

    def forget(self) -> None:
        """Drop the anchors: they say nothing about what follows."""
        self.histories.clear()
        self.revisit_error = None
