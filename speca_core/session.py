"""One run of one sampler: the algorithm, from top to bottom.

    session.arrive(sigma, x, guidance)         the sampler asks for a prediction; one or more calls of the model make it
    session.open_call(lanes, images)           which rows may be drafted, which must be computed, and why
    call.forecast(tap, rows)                   what a draft is made of
    call.judge(rows, errors)                   the verdict; rejected rows are computed in the same call
    call.observe(tap, rows, features)          computed features become anchors
    call.score(rows, errors)                   the hindcast: what the forecast would have been off by
    call.close(seconds)                        accounts settled, record written
    session.serve(x, denoised)                 hindsight: the prediction takes back what the drafts before it were off by

All mutable state of a run lives in its Session and dies with it; a new run is a new Session. Forecasts never become anchors.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence

import torch

from .budgets import Outlook, Reason
from .budgets.base import Ledger
from .config import SpecaConfig
from .hindsight import Hindsight
from .history import FeatureHistory, weighted_sum
from .path import Path
from .report import CallRecord, RowRecord, RunReport
from .schedule import Moment, Schedule
from .solver import Solver

EXIT = "exit"  # the tap every lane has: the stream that the model's head consumes
ABSENT = 2  # a lane that takes no part in so many predictions is forgotten: context windows that shift leave lanes behind


class Lane:
    """One batch row's own history, account and counters."""

    def __init__(self, ledger: Ledger, index: int, image: int) -> None:
        self.index = index  # in order of appearance
        self.image = image
        self.ledger = ledger
        self.histories: dict[str, FeatureHistory] = {}
        self.streak = 0
        self.computed = 0
        self.calls = 0
        self.seen = 0  # number of the last prediction it took part in
        self.drafted = -1  # number of the last prediction it was drafted in
        self.again: float | None = None  # what an anchor was off by where the sampler last came to its place again; None: not known yet

    @property
    def exit(self) -> FeatureHistory | None:
        """Anchors of the exit tap; None before the first full computation."""
        return self.histories.get(EXIT)


class Session:
    """State of one run.

    Args:
        config: what the user chose.
        sigmas: the run's schedule, steps + 1 values.
        model: the family's name, for the report.
        flow: the model is a flow model; see `Schedule`.
        solver: what the sampler does, if it is known; None: past drafts are not repaired.
        observers: called with each finished CallRecord.
    """

    def __init__(
        self,
        config: SpecaConfig,
        sigmas: Sequence[float],
        model: str = "",
        flow: bool = True,
        solver: Solver | None = None,
        observers: Iterable[Callable[[CallRecord], None]] = (),
    ) -> None:
        self.config = config
        self.schedule = Schedule(sigmas, flow)
        self.hindsight = Hindsight(solver)
        self.path = Path()
        self.depth = max(config.forecaster.depth, config.verifier.depth)  # anchors kept per tap
        self.min_anchors = max(config.forecaster.min_anchors, config.verifier.min_anchors)
        self.lanes: dict[Hashable, Lane] = {}
        self.observers = tuple(observers)
        self.report = RunReport(
            model=model, settings=config.to_dict(), steps=self.schedule.steps, sigmas=[*self.schedule.sigmas], flow=flow
        )
        self.predictions = 0
        self._lanes_made = 0
        self._strayed: set[int] = set()  # images that were off their path at the last place
        self.caching = True  # until memory runs out
        self.store: torch.device | None = None  # where anchors are kept; None: on the device of the features
        self.open_prediction(self.schedule.sigmas[0])  # so that a call can be opened without; the first that is asked for is number 1
        self.predictions = 0

    def arrive(self, sigma: torch.Tensor, x: torch.Tensor, guidance: float | None = None) -> None:
        """`open_prediction` for the latents `x` [images, ...] at the noise level `sigma` []; finds out which images have jumped."""
        self._before = len(self.report.calls)  # memory may run out here
        level, strayed = self.path.arrive(sigma, x) if self.caching else (float(sigma), set())
        kinks = self._kinks(strayed) if self.config.budget.presses_on else set()
        self._strayed = strayed
        self.open_prediction(level, guidance, strayed - kinks)

    def _kinks(self, strayed: set[int]) -> set[int]:
        """Images whose jump is a solver's answer to our own drafts: right behind one, and the first. Fresh noise is there without any, and
        again at the next place."""
        return {lane.image for lane in self.lanes.values() if self.predictions - lane.drafted <= 1} & strayed - self._strayed

    def open_prediction(self, sigma: float, guidance: float | None = None, jumped: Collection[int] = ()) -> None:
        """The sampler asks for a prediction; the calls that make it follow.

        Args:
            sigma: its noise level.
            guidance: its CFG scale, if it is uncond + guidance * (cond - uncond), rows of branch 0 being cond and those of branch 1
                uncond; None if it is anything else.
            jumped: images whose latent did not come along its path. Their anchors lie on another one and are dropped.
        """
        self.predictions += 1
        self.jumped = jumped
        self._before = len(self.report.calls)
        self.moment: Moment = self.schedule.moment(sigma)
        self.guidance = guidance
        self.computed: set[int] = set()  # images of which a row was computed in this prediction
        self.drafted: set[int] = set()  # images of which a row was drafted
        self._occurrences: Counter[Hashable] = Counter()
        self.lanes = {key: lane for key, lane in self.lanes.items() if self.predictions - lane.seen <= ABSENT}
        for lane in self.lanes.values():
            if lane.image in jumped:
                lane.histories.clear()
                lane.again = None
        for image in jumped:
            self.hindsight.forget(image)

    def open_call(self, lanes: Sequence[Hashable], images: Sequence[int], branches: Sequence[int], together: bool = False) -> "Call":
        """Decide for each row of a call whether it may be drafted.

        Args:
            lanes: identity of each row, stable over the run. What is asked for more than once in a prediction is told apart by its order.
            images: index of the image each row belongs to. Rows of one image (cond and uncond) decide together,
                because guidance multiplies the difference of their errors.
            branches: index of the conditioning of each row.
            together: all rows decide together, not only those of one image.
        """
        found = []
        for name, image in zip(lanes, images, strict=True):
            key = (name, self._occurrences[name])
            self._occurrences[name] += 1
            if key not in self.lanes:
                self.lanes[key] = Lane(self.config.budget.ledger(self.config.threshold), self._lanes_made, image)
                self._lanes_made += 1
            self.lanes[key].seen = self.predictions
            found.append(self.lanes[key])
        return Call(self, found, images, branches, together)

    def keep_on(self, store: torch.device) -> None:
        """Keep the anchors there, whatever device the features are on; to be said before the first call."""
        self.store = store
        self.report.placement = "host"

    def give_up(self) -> None:
        """Memory ran out in this prediction: let go of all that was kept, forget its calls, and compute from here on."""
        if self.caching:
            self.caching = False
            self.predictions -= 1  # it will be asked for again
            del self.report.calls[self._before :]
            self.report.out_of_memory = self._before
            for lane in self.lanes.values():
                lane.histories.clear()
            self.hindsight = Hindsight(None)
            self.path = Path()

    def serve(self, x: torch.Tensor, denoised: torch.Tensor) -> torch.Tensor:
        """What the sampler gets for the prediction `denoised` [images, ...] at `x`; see `Hindsight.serve`."""
        if not self.caching:
            return denoised
        served = self.hindsight.serve(self.moment, x, denoised, self.drafted)
        self.report.repaired += served is not denoised
        self.path.depart(served)
        return served

    @property
    def cache_bytes(self) -> int:
        """Memory held for the run now, in bytes."""
        kept = self.hindsight.nbytes + self.path.nbytes
        return kept + sum(h.nbytes for lane in self.lanes.values() for h in lane.histories.values())


class Call:
    """One evaluation of the model. `draft_rows` and `full_rows` are the plan; rows are indices into the call's batch."""

    def __init__(self, session: Session, lanes: Sequence[Lane], images: Sequence[int], branches: Sequence[int], together: bool) -> None:
        self.session = session
        self.lanes = lanes
        self.images = images
        self.branches = branches
        self.groups = [0] * len(images) if together else images  # rows of a group decide together
        self.moment = session.moment
        session.report.joint |= together
        self.outlooks = [self._outlook(lane) for lane in lanes]
        reasons = [self._reason(lane, outlook) for lane, outlook in zip(lanes, self.outlooks, strict=True)]
        session.computed |= {group for group, reason in zip(self.groups, reasons, strict=True) if reason is not Reason.DRAFT}
        self.draft_rows = [row for row, group in enumerate(self.groups) if group not in session.computed]
        self.full_rows = [row for row, group in enumerate(self.groups) if group in session.computed]
        self._rows = [
            RowRecord(image, branch, "computed", Reason.JOINT.value if reason is Reason.DRAFT else reason.value, lane=lane.index)
            for image, branch, reason, lane in zip(images, branches, reasons, lanes, strict=True)
        ]
        for row in self.draft_rows:
            self._rows[row].verdict = "drafted"
            self._rows[row].reason = Reason.DRAFT.value

    def _outlook(self, lane: Lane) -> Outlook:
        newest = lane.exit.coordinates[-1] if lane.exit else self.moment.coordinate
        return Outlook(self.moment, self.moment.coordinate - newest, lane.streak, lane.computed, lane.calls)

    def _reason(self, lane: Lane, outlook: Outlook) -> Reason:
        if not self.session.caching:
            return Reason.MEMORY
        if lane.image in self.session.jumped:
            return Reason.JUMP
        config = self.session.config
        if not config.start <= self.moment.progress <= config.end:
            return Reason.WINDOW
        granted = lane.ledger.grant(outlook)
        if granted is not Reason.DRAFT:
            return granted
        return self._no_forecast(lane) or Reason.DRAFT

    def _no_forecast(self, lane: Lane) -> Reason | None:
        """Why there is nothing to forecast from, or None."""
        if lane.exit is None or len(lane.exit.anchors) < self.session.min_anchors:
            return Reason.ANCHORS
        return Reason.REPEATED if self._repeated(lane) and lane.again is None else None

    def _repeated(self, lane: Lane) -> bool:
        """Whether an anchor lies at this very place, as at the second call that Heun makes there: it is the forecast, and no check says
        anything of it, so that what it was off by the last time counts."""
        return lane.exit is not None and lane.exit.has(self.moment.coordinate)

    def forecast(self, tap: str, rows: Sequence[int]) -> list[torch.Tensor]:
        """Forecasts of a tap at this call's place, one tensor per row, in the dtype and shape of its anchors."""
        return [self._forecast(self.lanes[row].histories[tap]) for row in rows]

    def _forecast(self, history: FeatureHistory) -> torch.Tensor:
        if history.has(self.moment.coordinate):
            return history.anchor_at(self.moment.coordinate)
        forecaster = self.session.config.forecaster
        depth = forecaster.depth
        return forecaster.forecast(history.coordinates[-depth:], history.at_hand(depth), self.moment.coordinate)

    def opinions(self, rows: Sequence[int]) -> Iterator[list[torch.Tensor]] | None:
        """Two forecasts of the exit, one tensor per row each, if the verifier compares such a pair. Each is made when it is asked for."""
        histories = [self.lanes[row].histories[EXIT] for row in rows]
        weights = [self.session.config.verifier.opinions(history.coordinates, self.moment.coordinate) for history in histories]
        pairs = [pair for pair in weights if pair is not None]
        if len(pairs) < len(rows):
            return None
        return (
            [weighted_sum(pair[i], history.at_hand(len(pair[i]))) for pair, history in zip(pairs, histories, strict=True)] for i in (0, 1)
        )

    def judge(self, rows: Sequence[int], errors: Sequence[float] | None) -> tuple[list[int], list[int]]:
        """Verdict on the drafts of `rows`.

        Args:
            rows: drafted rows.
            errors: the verifier's error of each; None where there is no verifier: everything is accepted.

        Returns:
            (accepted rows, rejected rows). An image is rejected as soon as one of its branches is: its error exceeds the tolerance
            or is not finite.
        """
        if errors is None:
            return list(rows), []
        failed: set[int] = set()
        for row, error in zip(rows, errors, strict=True):
            record, lane = self._rows[row], self.lanes[row]
            record.error = max(error, lane.again or 0.0) if self._repeated(lane) else error
            record.tolerance = lane.ledger.tolerance(self.outlooks[row])
            if not (math.isfinite(record.error) and record.error <= record.tolerance):
                record.verdict, record.reason = "rejected", Reason.REJECTED.value
                failed.add(self.groups[row])
        for row in rows:
            if self.groups[row] in failed and self._rows[row].verdict == "drafted":
                self._rows[row].verdict, self._rows[row].reason = "rejected", Reason.JOINT.value
        self.session.computed |= failed
        return [r for r in rows if self.groups[r] not in failed], [r for r in rows if self.groups[r] in failed]

    def guided(self, rows: Sequence[int], outputs: torch.Tensor) -> torch.Tensor:
        """What guidance makes of outputs: [rows, ...] in, [rows, ...] out.

        Where an image's cond and uncond are both among the rows, each becomes uncond + guidance * (cond - uncond): errors are judged in
        what the sampler gets, where guidance has multiplied their difference. All other rows stay as they are.
        """
        scale = self.session.guidance
        if scale is None or not self.session.config.guided:
            return outputs
        made = outputs.clone()
        for image in {self.images[row] for row in rows}:
            pair = sorted((self.branches[row], i) for i, row in enumerate(rows) if self.images[row] == image)
            if [branch for branch, _ in pair] == [0, 1]:
                cond, uncond = (i for _, i in pair)
                made[cond] = made[uncond] = torch.lerp(outputs[uncond].float(), outputs[cond].float(), scale).to(made.dtype)
        return made

    def observe(self, tap: str, rows: Sequence[int], features: Sequence[torch.Tensor]) -> None:
        """Keep computed features (one tensor per row) as anchors of a tap. A feature of another shape starts the lane's taps anew."""
        for row, feature in zip(rows, features, strict=True):
            histories = self.lanes[row].histories
            if tap in histories and histories[tap].anchors[-1].shape != feature.shape:
                histories.clear()
            if tap not in histories:
                histories[tap] = FeatureHistory(self.session.depth, self.session.store)
            histories[tap].record(self.moment.coordinate, feature)

    def scorable(self, rows: Sequence[int]) -> list[int]:
        """Those of the computed rows for which a forecast exists that can be scored against the truth (before `observe`)."""
        return [row for row in rows if self._no_forecast(self.lanes[row]) is not Reason.ANCHORS]

    def score(self, rows: Sequence[int], errors: Sequence[float]) -> None:
        """Record the hindcast: the measured error of the forecast that would have been served, one per row."""
        for row, error in zip(rows, errors, strict=True):
            self._rows[row].hindcast = error
            if self._repeated(self.lanes[row]):
                self.lanes[row].again = error

    def close(self, seconds: float) -> CallRecord:
        """Settle every lane's account and write the call's record."""
        for lane, outlook, record in zip(self.lanes, self.outlooks, self._rows, strict=True):
            lane.calls += 1
            if record.verdict == "drafted":
                self.session.drafted.add(record.image)
                lane.streak += 1
                lane.drafted = self.session.predictions
                lane.ledger.served(outlook, record.error)
            else:
                lane.streak = 0
                lane.computed += 1
                lane.ledger.computed(outlook, record.hindcast, record.error if record.verdict == "rejected" else None)
        report = self.session.report
        call = CallRecord(len(report.calls), self.moment.sigma, self.moment.position, seconds, self._rows, self.session.predictions)
        report.calls.append(call)
        report.cache_bytes = max(report.cache_bytes, self.session.cache_bytes)
        for observer in self.session.observers:
            observer(call)
        return call
