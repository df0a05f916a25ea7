"""What would a run have done under other settings? Its record is replayed through the real `Session`, with errors by a law of growth.

The error of a forecast through anchors at s_0 > s_1 > ... is the remainder of interpolation, a rate times (s - s_0)(s - s_1)...: it
grows with the distance from the anchors, and the rate changes slowly along the run. The path is rough as well: the closer the anchors,
the more it seems to bend between them. Measured over runs of the demo's model at fixed intervals, the rate goes with the anchors'
distance to the power of -0.1 to -0.7. Every checked draft tells the rate at its place; so does every hindcast, which measures the served
forecast itself and stands to the verifier's estimate in a ratio of its own: where only one of the two was measured, the ratio tells the
other. Between these places the logarithm of the rate is interpolated.

It is an estimate. The sampler's path under other settings is another one, and the rate is the recorded path's.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from .budgets import Reason
from .budgets.accumulated import weight
from .config import SpecaConfig
from .errors import ConfigError
from .report import RunReport
from .schedule import SAME_PLACE, Schedule
from .session import EXIT, Session

NODES = 2  # anchors whose distances count: the error of a line, which is what drafts mostly are
ROUGHNESS = 0.4  # the rate goes with the anchors' distance to the power of minus this
DRAFT_SHARE = 0.1  # seconds of a draft, as a share of a full call's, if the record has none
TINY = 1e-9
PSNR = 10.0, 26.0  # dB that a picture's PSNR lies above -20 log10(mean error counted): five in six of the demo's model's


def predict(recorded: RunReport, settings: Mapping[str, Any]) -> RunReport:
    """Replay a run under other settings.

    Args:
        recorded: a run that made at least one call.
        settings: as `SpecaConfig.to_dict()`; what decides which errors there are must be the record's: forecaster, verifier, `level`
            and `guided`.

    Returns:
        A report with predicted verdicts, errors, hindcasts and seconds of the recorded calls.

    Raises:
        ConfigError: a setting is out of range, or the record tells nothing about it.
    """
    config = SpecaConfig.from_choices(**settings)
    for part in ("forecaster", "verifier", "level", "guided"):
        if config.to_dict()[part] != recorded.settings[part]:
            raise ConfigError(f"what-if: {part} is another than the recorded run's; expected the same. Queue the graph to measure it.")
    if not recorded.calls:
        raise ConfigError("what-if: the run has no calls; expected a recorded one. Queue the graph first.")
    laws, clock = laws_of(recorded), Clock(recorded)
    session = Session(config, recorded.sigmas, model=recorded.model, flow=recorded.flow)
    checked = config.verifier.name != "none"
    prediction = 0
    for record in recorded.calls:
        lanes = [row.lane for row in record.rows]
        if record.prediction != prediction:
            prediction = record.prediction
            jumped = {row.image for row in record.rows if row.reason == Reason.JUMP.value}
            session.open_prediction(sigma_at(session.schedule, record.position), jumped=jumped)
        call = session.open_call(lanes, [r.image for r in record.rows], [r.branch for r in record.rows], recorded.joint)

        def errors(rows: Sequence[int], true: bool, call: Any = call, lanes: Sequence[int] = lanes) -> list[float]:
            """Of forecasts: as the verifier sees them, or as they are."""
            place, found = call.moment.coordinate, []
            for row in rows:
                law, history = laws[lanes[row]], call.lanes[row].exit
                rate = law.truth.at(place) if true else law.estimate.at(place)
                found.append(law.again if history.has(place) else rate * reach(place, history.coordinates))
            return found

        drafts = call.draft_rows
        _, rejected = call.judge(drafts, errors(drafts, true=False) if checked else None)
        computed = sorted(call.full_rows + rejected)
        scorable = call.scorable(computed)
        call.score(scorable, errors(scorable, true=True))
        call.observe(EXIT, computed, [torch.zeros(1)] * len(computed))
        seconds = clock.seconds(len(lanes), len(drafts), len(computed))
        call.close(record.seconds if record.computed and not drafts else seconds)
    report = session.report
    report.seconds = recorded.spent + sum(call.seconds for call in report.calls) - sum(call.seconds for call in recorded.calls)
    report.finished = recorded.finished
    return report


def psnr_band(recorded: RunReport, predicted: RunReport) -> tuple[float, float] | None:
    """Between what, in dB, the PSNR of the decoded picture to the plain one may be expected; of a batch's worst picture.

    The sampler adds up what it is served, so that the latents end about as far off as the mean, over all calls, of the drafts' errors in
    the model's output, each counted by its place in its streak as the budget `accumulated` does; what the verifier says is brought to
    that scale by the record's hindcasts. How a model and its decoder take it differs from picture to picture, hence the width.

    Args:
        recorded: the run that tells the scale. predicted: the run in question; may be the same.

    Returns:
        (low, high), or None where nothing was drafted, or a draft was not checked.
    """
    errors: dict[int, float] = {}
    streaks: dict[int, int] = {}
    for call in predicted.calls:
        worst: dict[int, float] = {}
        for row in call.rows:
            streaks[row.lane] = streaks.get(row.lane, 0) + 1 if row.verdict == "drafted" else 0
            if row.verdict != "drafted":
                continue
            if row.error is None:
                return None
            worst[row.image] = max(worst.get(row.image, 0.0), weight(streaks[row.lane], predicted.steps) * row.error)
        for image, error in worst.items():
            errors[image] = errors.get(image, 0.0) + error
    if not errors:
        return None
    ratio = next(iter(laws_of(recorded).values())).ratio
    level = -20 * math.log10(max(max(errors.values()) * ratio / len(predicted.calls), TINY))
    return level + PSNR[0], level + PSNR[1]


def sigma_at(schedule: Schedule, position: float) -> float:
    """The noise level at a position: reports round sigmas, but positions on the grid are exact."""
    step = min(int(position), schedule.steps - 1)
    share = position - step
    return schedule.sigmas[step] * (1 - share) + schedule.sigmas[step + 1] * share


def reach(at: float, anchors: Sequence[float]) -> float:
    """(s - s_0)(s - s_1) / (s_0 - s_1)^ROUGHNESS, coordinates in steps, the newest anchors; a missing one lies a step further back."""
    newest = [*reversed(anchors)][:NODES]
    newest += [newest[-1] - 1.0] * (NODES - len(newest))
    rough = math.pow(max(newest[0] - newest[1], TINY), -ROUGHNESS)
    return max(math.prod(abs(at - s) for s in newest) * rough, TINY)


@dataclass(frozen=True)
class Law:
    """The errors of one lane's forecasts.

    Attributes:
        estimate: as the verifier sees them.
        truth: as they are.
        ratio: hindcast / estimated error.
        again: what an anchor is off by when the sampler comes to its place again.
    """

    estimate: "Rates"
    truth: "Rates"
    ratio: float
    again: float


class Rates:
    """Errors per reach, along the run: (coordinate, error / reach), in order of the coordinate."""

    def __init__(self, rates: Sequence[tuple[float, float]]) -> None:
        self.places = [place for place, _ in rates]
        self.logs = [math.log(max(rate, TINY)) for _, rate in rates]

    def at(self, place: float) -> float:
        """The rate there: its logarithm interpolated, constant beyond the ends; 0 if nothing is known."""
        if not self.places:
            return 0.0
        i = bisect_left(self.places, place)
        if i == 0 or i == len(self.places):
            return math.exp(self.logs[min(i, len(self.logs) - 1)])
        share = (place - self.places[i - 1]) / (self.places[i] - self.places[i - 1])
        return math.exp(self.logs[i - 1] * (1 - share) + self.logs[i] * share)


def laws_of(recorded: RunReport) -> dict[int, Law]:
    """The law of each lane, from what a run has recorded."""
    schedule = Schedule(recorded.sigmas, recorded.flow)
    anchors: dict[int, list[float]] = {}
    drafts: dict[int, list[tuple[float, float]]] = {}
    hindcasts: dict[int, list[tuple[float, float]]] = {}
    again: dict[int, list[float]] = {}
    for call in recorded.calls:
        place = schedule.moment(sigma_at(schedule, call.position)).coordinate
        for row in call.rows:
            known = anchors.setdefault(row.lane, [])
            if any(abs(place - anchor) <= SAME_PLACE for anchor in known):
                again.setdefault(row.lane, []).extend([] if row.hindcast is None else [row.hindcast])
                continue
            for found, value in ((drafts, row.error), (hindcasts, row.hindcast)):
                rates = found.setdefault(row.lane, [])
                if known and value is not None and (not rates or place > rates[-1][0]):
                    rates.append((place, value / reach(place, known)))
            if row.verdict != "drafted" and (not known or place > known[-1]):
                known.append(place)
    ratio = _ratio(drafts, hindcasts)
    merged = {}
    for lane in anchors:
        estimates = {place: rate / ratio for place, rate in hindcasts[lane]} | dict(drafts[lane])
        truths = {place: rate * ratio for place, rate in drafts[lane]} | dict(hindcasts[lane])
        estimate, truth = Rates(sorted(estimates.items())), Rates(sorted(truths.items()))
        merged[lane] = Law(estimate, truth, ratio, median(again[lane]) if again.get(lane) else 0.0)
    return merged


def _ratio(drafts: Mapping[int, Sequence[tuple[float, float]]], hindcasts: Mapping[int, Sequence[tuple[float, float]]]) -> float:
    """Median over all hindcasts of hindcast / what a check would have said there; 1 if no draft was checked."""
    ratios = []
    for lane, rates in drafts.items():
        law = Rates(rates)
        ratios += [rate / law.at(place) for place, rate in hindcasts[lane] if rates and rates[0][0] <= place <= rates[-1][0]]
    return max(median(ratios), TINY) if ratios else 1.0


class Clock:
    """Seconds of a call, by the medians of a recorded run, in proportion to the rows.

    A pass over some of the rows takes more than its share: the recorded calls that were mixed tell how much more.
    """

    def __init__(self, recorded: RunReport) -> None:
        self.recorded = recorded
        self.full: dict[int, float] = {}  # rows of a call -> seconds of one of them, computed
        drafted = [call for call in recorded.calls if call.rows and all(row.verdict == "drafted" for row in call.rows)]
        self.draft = median(call.seconds / len(call.rows) for call in drafted) if drafted else None
        self.mixed = 1.0
        mixed = []
        for call in recorded.calls:
            computed = sum(row.verdict != "drafted" for row in call.rows)
            if 0 < computed < len(call.rows):
                mixed.append(call.seconds / self.seconds(len(call.rows), sum(row.verdict != "computed" for row in call.rows), computed))
        self.mixed = median(mixed) if mixed else 1.0

    def seconds(self, rows: int, drafts: int, computed: int) -> float:
        """Seconds of a call of so many rows, of which so many are drafted and computed (a rejected row is both)."""
        if rows not in self.full:
            self.full[rows] = (self.recorded.full_seconds(rows) or TINY) / max(rows, 1)
        full = self.full[rows]
        draft = DRAFT_SHARE * full if self.draft is None else self.draft
        return (draft * drafts + full * computed) * (self.mixed if 0 < computed < rows else 1.0)
