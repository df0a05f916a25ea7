"""One run of one sampler: the algorithm, from top to bottom.

    prediction = session.predict(sigma, x)     the sampler asks for a prediction
    call = prediction.open_call(lanes, ...)    one evaluation of the model for it: which rows may
                                               be drafted, which must be computed, and why
    parts = call.answer(subject)               draft, verify, accept or compute, learn
    call.close(seconds)                        settle the lanes' policies, write the record
    prediction.serve(x, denoised)              hindsight: correct what the drafts before left behind

All mutable state of a run lives in its Session and dies with it; a new run is a new Session.
Forecasts never become anchors.
"""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from .axis import Schedule, SchedulePoint
from .budgets import Reason
from .call import Call
from .config import SpecaConfig
from .correction import DeferredCorrection
from .gatherer import Gatherer
from .jumps import JumpDetector
from .landing import Landing
from .lane import Lane
from .path_model import PathModel
from .report import CallRecord, RunReport
from .sampler_response import SamplerResponse
from .tensors import Holder, weighed

FORGET_AFTER = 2  # predictions without a lane; context windows that shift leave lanes behind


class Session:
    """State of one run.

    Args:
        config: what the user chose.
        sigmas: the run's schedule, steps + 1 values.
        model: its name, for the report.
        flow: the model is a flow model; see `Schedule`.
        response: how the sampler responds to what it is served; None: drafts are not corrected.
        observers: called with each finished CallRecord.
        path: what is known of the run beforehand; None: nothing.
        gatherer: makes a profile of the run, which is plain then; None: there is no need.
    """

    def __init__(
        self,
        config: SpecaConfig,
        sigmas: Sequence[float],
        model: str = "",
        flow: bool = True,
        response: SamplerResponse | None = None,
        observers: Iterable[Callable[[CallRecord], None]] = (),
        path: PathModel | None = None,
        gatherer: Gatherer | None = None,
    ) -> None:
        self.config = config
        self.schedule = Schedule(sigmas, flow)
        self.path, self.gatherer = path, gatherer
        self.parts: Sequence[int] = ()  # sizes of what lies end to end in a row; () if all is one
        self.drawn: torch.Tensor | None = None  # see `draw`
        self.holders: list[Holder] = []  # others who keep tensors for this run
        self.landing = Landing(path) if path is not None else None
        self.correction = DeferredCorrection(None if path is not None else response)
        self.jumps = JumpDetector()
        self.depth = max(config.forecaster.depth, config.verifier.depth)  # anchors kept per tap
        self.min_anchors = max(config.forecaster.min_anchors, config.verifier.min_anchors)
        self.lanes: dict[Hashable, Lane] = {}
        self.observers = list(observers)
        self.report = RunReport(
            model=model,
            settings=config.to_dict(),
            level=config.effective_level,
            steps=self.schedule.steps,
            sigmas=[*self.schedule.sigmas],
            flow=flow,
        )
        self.predictions = 0  # asked for so far
        self.caching = True  # until memory runs out
        self.store: torch.device | None = None  # of what is kept; None: the device it comes from
        self._lanes_made = 0
        self.stopped: Reason | None = None  # why nothing is drafted any more
        self.shown: tuple[Any, Any] = (None, None)  # the newest prediction: as served, unrepaired
        self._position = 0.0  # of the newest prediction
        self._turn = -1  # the sampler's last one, in a run with a path model
        self._jumped: Collection[int] = ()  # images that had jumped at the last place

    def predict(
        self, sigma: torch.Tensor, x: torch.Tensor, guidance: float | None = None
    ) -> "Prediction":
        """The sampler asks for a prediction.

        Args:
            sigma: [], the noise level. x: [images, ...], the latents there.
            guidance: see `Prediction`.
        """
        self.predictions += 1  # first: memory may run out in the next line
        self.shown = None, None
        level, jumped = self._arrived(sigma, x)
        return Prediction(self, level, guidance, jumped)

    def _arrived(self, sigma: torch.Tensor, x: torch.Tensor) -> tuple[float, set[int]]:
        """The noise level as a number, and the images that have jumped."""
        if not self.speculates:
            return float(sigma), set()
        if self.landing is not None:  # it knows the sampler, and what drafts do to it
            return self.landing.observe(sigma, x)
        level, jumped = self.jumps.observe(sigma, weighed(x, self.drawn))
        own = self._self_inflicted(jumped) if self.config.budget.ignores_own_jumps else set()
        self._jumped = jumped
        return level, jumped - own

    def predict_at(
        self, sigma: float, guidance: float | None = None, jumped: Collection[int] = ()
    ) -> "Prediction":
        """A prediction without latents: whoever asks knows which images have jumped."""
        self.predictions += 1
        return Prediction(self, sigma, guidance, jumped)

    def _self_inflicted(self, jumped: set[int]) -> set[int]:
        """Images whose jump our own draft has caused, not noise: it follows a draft, and the step
        before did not jump."""
        drafted = {
            lane.image for lane in self.lanes.values() if self.predictions - lane.drafted <= 2
        }
        return drafted & jumped - set(self._jumped)

    def lane(self, key: Hashable, image: int) -> Lane:
        """The lane of a row, new if the run has not seen it."""
        if key not in self.lanes:
            policy = self.config.budget.policy(self.report.trust * self.config.threshold, self.path)
            self.lanes[key] = Lane(policy, self._lanes_made, image)
            self._lanes_made += 1
        self.lanes[key].seen = self.predictions
        return self.lanes[key]

    def point(self, sigma: float) -> SchedulePoint:
        """Where a prediction at `sigma` sits. With a path model its coordinate is the sampler's
        turn; if the sampler was not expected to ask there, the path model serves no longer."""
        point = self.schedule.point(sigma, self._position)
        self._position = point.position
        if self.path is None:
            return point
        turn = self.path.response.turn(self._turn, sigma)
        if turn is None:
            self.stop(Reason.PROFILE)
            return point
        self._turn = turn
        return replace(point, coordinate=float(turn))

    def draw(self, share: torch.Tensor) -> None:
        """Only a part of what is predicted is used, as where a picture is inpainted. Errors, jumps
        and what is learned are measured there: a given part would hide them, or look like a jump.

        Args:
            share: of each number that is used, [images, ...] from 0 to 1, as the latents are.
        """
        self.drawn = share
        for watch in (self.landing, self.gatherer):
            if watch is not None:
                watch.drawn = share

    def place_anchors_on(self, store: torch.device) -> None:
        """Keep all tensors there, whatever their device; before the first prediction."""
        self.store = store
        self.report.placement = "host"
        self.jumps = JumpDetector(store)
        if self.gatherer is not None:
            self.gatherer.store = store
        self.correction = DeferredCorrection(self.correction.response, store)
        if self.landing is not None:
            self.landing.store = store

    def stop_caching(self) -> None:
        """Memory ran out: drop the newest prediction, which will be asked for again, and all that
        was kept. From here on everything is computed."""
        self.caching = False
        calls = self.report.calls
        calls[:] = [call for call in calls if call.prediction != self.predictions]
        self.report.out_of_memory = len(calls)
        self.stop(Reason.MEMORY)

    def note_memory(self) -> None:
        """Note in the report what is held now, if it is more than ever."""
        self.report.cache_bytes = max(self.report.cache_bytes, self.cache_bytes)

    def stop(self, why: Reason) -> None:
        """What the model says is no anchor from here on, and teaches nothing. The first reason
        stands."""
        self.stopped, self.path = self.stopped or why, None
        if self.gatherer is not None:
            self.gatherer.give_up()
            self.gatherer = None
        self._drop()

    def unrepaired(self, served: Any) -> Any:
        """What the model or the forecast said where `served` is what the sampler was given. Repairs
        are for its latents: added to a picture, they are seen."""
        given, said = self.shown
        return said if said is not None and served is given else served

    def close(self) -> None:
        """The run is over: nothing that was kept for it is needed any more."""
        self.caching, self.gatherer = False, None
        self.holders.clear()
        self._drop()

    def _drop(self) -> None:
        for lane in self.lanes.values():
            lane.forget()
        self.correction, self.landing = DeferredCorrection(None), None
        self.jumps, self.shown, self.drawn = JumpDetector(), (None, None), None

    @property
    def speculates(self) -> bool:
        """Whether a draft may be served now or later; if not, nothing is kept for one."""
        asked = self.config.threshold > 0 and self.gatherer is None
        return self.caching and asked and self.stopped is None

    def foreseen(self, latents: torch.Tensor) -> int | None:
        """Bytes that will be held at level prediction of a run of such latents; None: unknown."""
        if self.gatherer is not None and self.correction.response is not None:
            return self.gatherer.foreseen(latents, self.correction.response.sigmas)
        return None if self.landing is None else self.landing.foreseen(latents)

    @property
    def cache_bytes(self) -> int:
        """Memory held for the run now, in bytes."""
        kept = [h for lane in self.lanes.values() for h in lane.histories.values()]
        kept += [said for served, said in [self.shown] if served is not said]  # before a repair
        others = self.correction, self.jumps, self.landing, self.gatherer, *self.holders
        return sum(each.nbytes for each in (*kept, *others) if each is not None)


class Prediction:
    """What the sampler asked for at one noise level; one or more calls of the model make it.

    Args:
        guidance: its CFG scale, if it is uncond + guidance * (cond - uncond), with rows of branch 0
            being cond and those of branch 1 uncond; None if it is anything else.
        jumped: images whose latent has left its path. Their anchors are dropped.
    """

    def __init__(
        self, session: Session, sigma: float, guidance: float | None, jumped: Collection[int]
    ) -> None:
        self.session = session
        self.number = session.predictions
        self.point = session.point(sigma)
        self.guidance = guidance
        self.jumped = jumped
        self.computed: set[int] = set()  # groups of which a row was computed; see `Call.groups`
        self.drafted: set[int] = set()  # images of which a row was served a draft
        self._asked: Counter[Hashable] = Counter()
        for key, lane in [*session.lanes.items()]:
            if lane.image in jumped:
                lane.forget()
            if self.number - lane.seen > FORGET_AFTER:
                del session.lanes[key]
        for image in jumped:
            session.correction.forget(image)

    def open_call(
        self,
        lanes: Sequence[Hashable],
        images: Sequence[int],
        branches: Sequence[int],
        coupled: bool = False,
    ) -> Call:
        """Decide for each row of a call whether it may be drafted.

        Args:
            lanes: identity of each row, stable over the run. What is asked for more than once in a
                prediction is told apart by its order.
            images: index of the image each row belongs to. Rows of one image (cond and uncond)
                decide together, because guidance multiplies the difference of their errors; in a
                later call of the same prediction they follow the first.
            branches: index of the conditioning of each row.
            coupled: all rows decide together, not only those of one image.
        """
        found = []
        for name, image in zip(lanes, images, strict=True):
            found.append(self.session.lane((name, self._asked[name]), image))
            self._asked[name] += 1
        return Call(self, found, images, branches, coupled)

    def serve(self, x: torch.Tensor, denoised: torch.Tensor) -> torch.Tensor:
        """What the sampler gets for `denoised` [images, ...] at the latents `x`; see
        `DeferredCorrection.serve`."""
        session = self.session
        if not session.speculates:
            return denoised
        if session.landing is not None:
            lanes = {
                lane.image: lane for lane in session.lanes.values() if lane.seen == self.number
            }
            served = session.landing.serve(self.point, x, denoised, self.drafted, lanes)
        else:
            served = session.correction.serve(self.point, x, denoised, self.drafted)
            session.jumps.record_served(weighed(served, session.drawn))
        session.report.repaired += served is not denoised
        session.shown = served, denoised
        session.note_memory()
        return served
