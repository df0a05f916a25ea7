"""What would a run have done under other settings? Its record is replayed through the real
`Session`, with errors by a law of growth.

The error of a forecast through anchors at s_0 > s_1 > ... is the remainder of interpolation, a rate
times (s - s_0)(s - s_1)...: it grows with the distance from the anchors, and the rate changes
slowly along the run. The path is rough as well: the closer the anchors, the more it seems to bend
between them. Over runs of the demo's model at fixed intervals, the rate goes with the anchors'
distance to the power of -0.1 to -0.7. Every checked draft tells the rate at its place; so does
every hindcast, which measures the served forecast itself and stands to the verifier's estimate in a
ratio of its own: where only one of the two was measured, the ratio tells the other. Between these
places the logarithm of the rate is interpolated.

It is an estimate. The sampler's path under other settings is another one, and the rate is the
recorded path's.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .anchors import HEAD_INPUT, FeatureHistory
from .axis import Schedule
from .budgets import Reason
from .budgets.accumulated import weight
from .call import Call
from .config import SpecaConfig
from .error_laws import Clock, Law, laws_of, reach, sigma_at
from .errors import ConfigError
from .lane import START
from .plans import Plans
from .report import RunReport
from .sampler_response import SamplerResponse
from .session import Session

TINY = 1e-9
# dB that a picture's PSNR lies above -20 log10(mean error counted): five in six of the demo
# model's.
PSNR = 10.0, 26.0
# The same above a foretold distance of the last latent: all but the worst of twenty pictures.
PSNR_OF_DISTANCE = 6.0, 15.0


def replay(recorded: RunReport, settings: Mapping[str, Any]) -> RunReport:
    """Replay a run under other settings.

    Args:
        recorded: a run that made at least one call.
        settings: as `SpecaConfig.to_dict()`. Forecaster, verifier, `level`, `guided` and
            `hindsight` decide which errors there are, and must be the record's.

    Returns:
        A report with predicted verdicts, errors, hindcasts and seconds of the recorded calls.

    Raises:
        ConfigError: a setting is out of range, or the record tells nothing about it.
    """
    config, profile = SpecaConfig.build(settings), recorded.profile or {}
    for part in ("forecaster", "verifier", "level", "guided", "hindsight"):
        if config.to_dict()[part] != recorded.settings[part]:
            raise ConfigError(
                f"what-if: {part} is another than the recorded run's; expected the same. "
                "Queue the graph to measure it."
            )
    if not recorded.calls:
        raise ConfigError(
            "what-if: the run has no calls; expected a recorded one. Queue the graph first."
        )
    unheard = recorded.settings["threshold"] == 0 and not is_measured(recorded)
    plain = unheard or profile.get("state") == "learning"
    if config.threshold > 0 and plain and "plans" not in profile:
        raise ConfigError(
            "what-if: the run was the plain model's and taught nothing; expected one with drafts. "
            "Queue the graph with this threshold."
        )
    config = config.judged  # as the run did
    if profile.get("state") == "none":
        config = config.without_profile
    clock = Clock(recorded)
    laws, checked = laws_of(recorded), config.verifier.judges_drafts
    schedule = recorded.sigmas, recorded.model, recorded.flow
    session = Session(config, *schedule, path=RecordedPath.of(recorded))
    session.report.watched, session.report.trust = recorded.watched, recorded.trust
    number = None
    for record in recorded.calls:
        if record.prediction != number:
            number = record.prediction
            jumped = {row.image for row in record.rows if row.reason == Reason.JUMP.value}
            sigma = sigma_at(session.schedule, record.position)
            prediction = session.predict_at(sigma, jumped=jumped)
        lanes = [row.lane for row in record.rows]
        images, branches = [r.image for r in record.rows], [r.branch for r in record.rows]
        call = prediction.open_call(lanes, images, branches, recorded.coupled)
        call.answer(ReplaySubject(laws, lanes, checked))
        drafts = len(call.draft_rows)
        computed = len(call.full_rows) + len(call.rejected_rows)
        # The first call's own time: what a model does once, compiling or loading, is in it. The
        # others' is noise, and would make one plan slower than a longer one.
        once = record is recorded.calls[0] and not drafts
        call.close(record.seconds if once else clock.seconds(len(lanes), drafts, computed))
    report = session.report
    unrecorded = recorded.spent - sum(call.seconds for call in recorded.calls)
    report.seconds = unrecorded + sum(call.seconds for call in report.calls)
    report.finished = recorded.finished
    if isinstance(session.path, RecordedPath):
        share = report.evaluations / report.rows
        foretold = session.path.plans.distance(share * session.path.turns)
        report.profile = {**profile, "foretold": foretold}
    return report


def is_measured(recorded: RunReport) -> bool:
    """Whether any forecast was compared with anything."""
    rows = (row for call in recorded.calls for row in call.rows)
    return any(row.error is not None or row.hindcast is not None for row in rows)


def better_steps(predicted: RunReport) -> int | None:
    """So many plain steps take as long as a run, and are foretold to come nearer to the picture;
    None if they are not."""
    profile = predicted.profile or {}
    foretold, known = profile.get("foretold"), profile.get("fewer_steps")
    if foretold is None or not known or not predicted.count("accepted"):
        return None
    steps = predicted.steps * predicted.evaluations / predicted.rows
    counts, distances = zip(*known, strict=True)
    return round(steps) if np.interp(steps, counts, distances) < foretold else None


class RecordedPath:
    """Stands for a run's path model: it knows the plans, and no weights.

    Args:
        plans: of the run.
        sigmas: where the sampler asked, turn by turn.
    """

    surprise = 1.0

    def __init__(self, plans: Plans, sigmas: Sequence[float]) -> None:
        self.plans = plans
        self.turns = plans.turns
        self.response = SamplerResponse(tuple(sigmas), ((1.0,),) * len(sigmas))
        self.plan, self.plan_within = plans.plan, plans.plan_within

    @classmethod
    def of(cls, recorded: RunReport) -> Any:
        """That of a run which a profile has served; None for all others."""
        source = (recorded.profile or {}).get("plans")
        if source is None:
            return None
        schedule = Schedule(recorded.sigmas, recorded.flow)
        asked = {call.prediction: sigma_at(schedule, call.position) for call in recorded.calls}
        return cls(Plans.read(source), [*asked.values()])

    def expected_innovation(self, *_: Any) -> float:
        """Nothing surprises in a replay."""
        return math.inf


class Blank:
    """Stands for a feature, where there is nothing but its place."""

    shape = ()
    device = None
    nbytes = 0

    def to(self, *_: Any, **__: Any) -> "Blank":
        return self


class ReplaySubject:
    """One call of a recorded run: errors follow the laws of its lanes, and there are no outputs.

    Args:
        laws: of the record's lanes, by number.
        lanes: number of each row's lane.
        checked: the verifier compares something.
    """

    def __init__(self, laws: Mapping[int, Law], lanes: Sequence[int], checked: bool) -> None:
        self.laws = laws
        self.lanes = lanes
        self.checked = checked

    def draft(self, call: Call, rows: Sequence[int]) -> tuple[Sequence[int], Any]:
        """Judge by the errors that the verifier would have seen."""
        accepted, _ = call.judge(rows, self._errors(call, rows, False) if self.checked else None)
        return accepted, [Blank()] * len(accepted)

    def compute(self, call: Call, rows: Sequence[int]) -> Any:
        """Score by the errors that the forecasts would have had."""
        blank: Any = Blank()
        for row in rows:
            call.lanes[row].histories.setdefault(START, FeatureHistory(1)).record(0.0, blank)
        scorable = call.scorable(rows)
        call.score(scorable, self._errors(call, scorable, True))
        blanks = [blank] * len(rows)
        call.observe(HEAD_INPUT, rows, blanks)
        return blanks

    def _errors(self, call: Call, rows: Sequence[int], true: bool) -> list[float]:
        """Of forecasts: as they are, or as the verifier sees them."""
        found, place = [], call.point.coordinate
        for row in rows:
            law, lane = self.laws[self.lanes[row]], call.lanes[row]
            if lane.revisits(call.point) or lane.head_input is None:
                found.append(law.revisit)
                continue
            rate = (law.truth if true else law.estimate).at(place)
            found.append(rate * reach(place, lane.head_input.coordinates))
        return found


def psnr_band(recorded: RunReport, predicted: RunReport) -> tuple[float, float] | None:
    """The range, in dB, in which to expect the PSNR of the decoded picture to the plain one.

    Of a batch it is the worst picture's. The sampler adds up what it is served, so that the latents
    end about as far off as the mean, over all calls, of the drafts' errors in the model's output,
    each counted by its place in its streak as the budget `accumulated` does. The record's hindcasts
    calibrate the verifier's errors. How a model and its decoder respond differs from picture to
    picture, hence the width.

    Args:
        recorded: the run that tells the scale.
        predicted: the run in question; may be the same.

    Returns:
        (low, high). With a profile it is that of the foretold distance of the last latent. None
        where nothing was drafted; without a profile also where a draft was not checked.
    """
    foretold = (predicted.profile or {}).get("foretold")
    if isinstance(foretold, float) and predicted.count("accepted"):
        level = -20 * math.log10(max(foretold, TINY))
        return level + PSNR_OF_DISTANCE[0], level + PSNR_OF_DISTANCE[1]
    errors: dict[int, float] = {}
    streaks: dict[int, int] = {}
    for call in predicted.calls:
        worst: dict[int, float] = {}
        for row in call.rows:
            streaks[row.lane] = streaks.get(row.lane, 0) + 1 if row.verdict == "accepted" else 0
            if row.verdict != "accepted":
                continue
            if row.error is None:
                return None
            counted = weight(streaks[row.lane], predicted.steps) * row.error
            worst[row.image] = max(worst.get(row.image, 0.0), counted)
        for image, error in worst.items():
            errors[image] = errors.get(image, 0.0) + error
    if not errors:
        return None
    ratio = next(iter(laws_of(recorded).values())).ratio
    level = -20 * math.log10(max(max(errors.values()) * ratio / len(predicted.calls), TINY))
    return level + PSNR[0], level + PSNR[1]
