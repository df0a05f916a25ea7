"""One call of the model: draft, verify, accept or compute, learn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from .anchors import HEAD_INPUT, FeatureHistory
from .budgets import LaneState, Reason
from .forecasters.base import Linear
from .lane import Lane
from .report import CallRecord, RowRecord
from .subject import Head, Subject
from .tensors import Part, weighted_sums

if TYPE_CHECKING:
    from .session import Prediction


class Call:
    """The model is asked once, for one or more rows.

    Attributes:
        draft_rows, full_rows: the plan, as indices into the call's batch.
        rejected_rows: drafted rows that were refused, once they are judged.
        groups: of each row; rows of one group are accepted or computed together.
        states: of each row's lane, when the call was opened.
    """

    def __init__(
        self,
        prediction: Prediction,
        lanes: Sequence[Lane],
        images: Sequence[int],
        branches: Sequence[int],
        coupled: bool,
    ) -> None:
        self.prediction = prediction
        self.session = prediction.session
        self.point = prediction.point
        self.lanes = lanes
        self.images = images
        self.branches = branches
        self.groups = [0] * len(images) if coupled else images
        self.session.report.coupled |= coupled
        self.states = [lane.state(self.point) for lane in lanes]
        reasons = [self._reason(*of) for of in zip(lanes, self.states, strict=True)]
        due = {group for group, why in zip(self.groups, reasons, strict=True) if why}
        prediction.computed |= due
        computed = prediction.computed
        self.draft_rows = [row for row, group in enumerate(self.groups) if group not in computed]
        self.full_rows = [row for row, group in enumerate(self.groups) if group in computed]
        self.rejected_rows: list[int] = []
        self.records = [
            RowRecord(image, branch, "computed", (why or Reason.COUPLED).value, lane=lane.index)
            for image, branch, why, lane in zip(images, branches, reasons, lanes, strict=True)
        ]
        for row in self.draft_rows:
            self.records[row].verdict = "accepted"
            self.records[row].reason = Reason.DRAFT.value

    def answer(self, subject: Subject) -> list[Part]:
        """Speculate: draft what may be drafted, verify it, compute the rest in the same call.

        This is the algorithm, whatever is forecast. `subject` only knows how to draft rows and how
        to compute them.

        Returns:
            (rows, outputs) of what was drafted and of what was computed; `join` puts them in order.
        """
        parts: list[Part] = []
        if self.draft_rows:
            parts.append(subject.draft(self, self.draft_rows))
        answered = {row for rows, _ in parts for row in rows}
        if missing := [row for row in range(len(self.lanes)) if row not in answered]:
            parts.append((missing, subject.compute(self, missing)))
        return [part for part in parts if part[0]]

    def _reason(self, lane: Lane, state: LaneState) -> Reason | None:
        """Why a row must be computed; None if it may be drafted."""
        config = self.session.config
        if self.session.stopped:
            return self.session.stopped
        if self.session.gatherer is not None:
            return Reason.LEARNING
        if lane.image in self.prediction.jumped:  # first: it has taken the lane off its course
            return Reason.JUMP
        if self.session.path and lane.calls and not lane.on_course:
            return Reason.PROFILE
        if not config.start <= self.point.progress <= config.end:
            return Reason.WINDOW
        if self.prediction.number <= self.session.report.watched:
            return Reason.WARMUP
        decided: Reason = lane.policy.decide(state)
        if decided is not Reason.DRAFT:
            return decided
        if self.session.path is not None:
            return None if lane.on_course else Reason.PROFILE
        return lane.no_forecast(self.point, self.session.min_anchors)

    # --- what a subject asks ----------------------------------------------------------------------

    def forecast(self, tap: str, rows: Sequence[int]) -> torch.Tensor:
        """Forecasts of a tap at this call's place, [rows, ...], in the anchors' dtype and shape."""
        return weighted_sums((self._terms(self.lanes[row], tap) for row in rows), len(rows))

    def _terms(self, lane: Lane, tap: str) -> tuple[Sequence[float], Sequence[torch.Tensor]]:
        """Of which anchors a forecast is the sum, and with which weights."""
        at, forecaster = self.point.coordinate, self.session.config.forecaster
        if self.session.path is not None:
            return self.session.path.slope_weights(lane.turns, int(at)), lane.course
        history = lane.histories[tap]
        if history.has(at):
            return [1.0], [history.anchor_at(at)]
        depth = forecaster.depth
        places, anchors = history.coordinates[-depth:], history.at_hand(depth)
        if isinstance(forecaster, Linear):
            return forecaster.weights(places, at), anchors
        return [1.0], [forecaster.forecast(places, anchors, at)]

    def embedded_pair(self, rows: Sequence[int]) -> Iterator[torch.Tensor] | None:
        """Two forecasts of the head's input, [rows, ...] each; see `Verifier.embedded_pair`. Each
        is made when it is asked for."""
        verifier, at = self.session.config.verifier, self.point.coordinate
        histories = [self.lanes[row].histories[HEAD_INPUT] for row in rows]
        pairs = [verifier.embedded_pair(history.coordinates, at) for history in histories]
        known = [pair for pair in pairs if pair is not None]
        if len(known) < len(rows):
            return None
        return (
            weighted_sums(
                (
                    (pair[i], history.at_hand(len(pair[i])))
                    for pair, history in zip(known, histories, strict=True)
                ),
                len(rows),
            )
            for i in (0, 1)
        )

    def judge(
        self, rows: Sequence[int], errors: Sequence[float] | None
    ) -> tuple[list[int], list[int]]:
        """Verdict on the drafts of `rows`.

        Args:
            rows: drafted rows.
            errors: the verifier's error of each; None if there is no check: all are accepted.

        Returns:
            (accepted rows, rejected rows). A group is rejected as soon as one of its rows is: its
            error exceeds the tolerance or is not finite.
        """
        failed: set[int] = set()
        for row, error in zip(rows, errors or (), strict=errors is not None):
            record, lane = self.records[row], self.lanes[row]
            if lane.revisits(self.point):
                error = max(error, lane.revisit_error or 0.0)
            record.error, record.tolerance = error, lane.policy.tolerance(self.states[row])
            if not (math.isfinite(error) and error <= record.tolerance):
                record.verdict, record.reason = "rejected", Reason.REJECTED.value
                failed.add(self.groups[row])
        for row in rows:
            if self.groups[row] in failed and self.records[row].verdict == "accepted":
                self.records[row].verdict = "rejected"
                self.records[row].reason = Reason.COUPLED.value
        self.prediction.computed |= failed
        self.rejected_rows = [row for row in rows if self.groups[row] in failed]
        return [row for row in rows if self.groups[row] not in failed], self.rejected_rows

    def learn(self, rows: Sequence[int], features: torch.Tensor, output: Any, head: Head) -> None:
        """Score the forecasts of computed rows against the truth, then keep their features.

        Args:
            rows: of the call.
            features: [rows, ...], the true input of the head.
            output: the head's result for it.
            head: the head itself.
        """
        scorable = [
            row
            for row in self.scorable(rows)
            # A patch may have changed the number of tokens since the anchors.
            if self.lanes[row].histories[HEAD_INPUT].anchors[-1].shape == features.shape[1:]
        ]
        if scorable:
            guesses = self.forecast(HEAD_INPUT, scorable)
            if len(scorable) < len(rows):
                known = dict(zip(scorable, guesses, strict=True))
                each = zip(rows, features, strict=True)
                guesses = torch.stack([known.get(row, own) for row, own in each])
            forecast = head(guesses)
            errors = self.session.config.verifier.difference(head, forecast, output).tolist()
            self.score(scorable, [errors[rows.index(row)] for row in scorable])
        self.observe(HEAD_INPUT, rows, list(features.unbind(0)))

    def scorable(self, rows: Sequence[int]) -> list[int]:
        """Those of the computed rows that a forecast exists for (before `observe`)."""
        if self.session.path is not None:
            return [row for row in rows if self.lanes[row].on_course]
        needed = self.session.min_anchors
        reasons = {row: self.lanes[row].no_forecast(self.point, needed) for row in rows}
        return [row for row, why in reasons.items() if why is not Reason.ANCHORS]

    def score(self, rows: Sequence[int], errors: Sequence[float]) -> None:
        """Record the hindcast: the measured error of the forecast that would have been served."""
        for row, error in zip(rows, errors, strict=True):
            self.records[row].hindcast = error
            if self.session.path is not None:
                turns = self.lanes[row].turns, int(self.point.coordinate)
                expected = self.session.path.expected_innovation(*turns)
                self.records[row].surprise = error / (expected * self.session.path.surprise)
            if self.lanes[row].revisits(self.point):
                self.lanes[row].revisit_error = error

    def observe(self, tap: str, rows: Sequence[int], features: Sequence[torch.Tensor]) -> None:
        """Keep computed features, one per row, as anchors of a tap. One of another shape than the
        newest starts the lane's taps anew."""
        for row, feature in zip(rows, features, strict=True):
            histories = self.lanes[row].histories
            if tap in histories and histories[tap].anchors[-1].shape != feature.shape:
                for name, history in [*histories.items()]:
                    history.restart(self.point.coordinate)  # what this pass has observed stays
                    if not history.anchors:
                        del histories[name]
            if tap not in histories:
                histories[tap] = FeatureHistory(self.session.depth, self.session.store)
            histories[tap].record(self.point.coordinate, feature)

    def close(self, seconds: float) -> CallRecord:
        """Settle every lane's policy and write the call's record."""
        verifier = self.session.config.verifier
        for lane, state, record in zip(self.lanes, self.states, self.records, strict=True):
            lane.calls += 1
            if record.verdict == "accepted":
                self.prediction.drafted.add(record.image)
                lane.streak += 1
                lane.drafted = self.prediction.number
                lane.policy.on_accepted(state, record.error)
            else:
                lane.streak = 0
                lane.computed += 1
                rejected = record.error if record.verdict == "rejected" else None
                if self.session.path is not None:
                    lane.turns = *lane.turns, int(self.point.coordinate)
                if record.surprise is not None and verifier.is_surprised(record.surprise):
                    lane.policy.on_surprise()
                lane.policy.on_computed(state, record.hindcast, rejected)
        report, point = self.session.report, self.point
        call = CallRecord(
            len(report.calls),
            point.sigma,
            point.position,
            seconds,
            self.records,
            self.prediction.number,
        )
        report.calls.append(call)
        self.session.note_memory()
        for observer in self.session.observers:
            observer(call)
        return call
