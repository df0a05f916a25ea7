"""What a run's record says of its forecasts' errors, and of the seconds of a call; see `replay`."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from .axis import SAME_PLACE, Schedule
from .report import RunReport

NODES = 2  # anchors whose distances count: the error of a line, which is what drafts mostly are
ROUGHNESS = 0.4  # the rate goes with the anchors' distance to the power of minus this
DRAFT_SHARE = 0.1  # seconds of a draft, as a share of a full call's, if the record has none
TINY = 1e-9


def sigma_at(schedule: Schedule, position: float) -> float:
    """The noise level at a position: reports round sigmas, but positions on the grid are exact."""
    step = min(int(position), schedule.steps - 1)
    share = position - step
    return schedule.sigmas[step] * (1 - share) + schedule.sigmas[step + 1] * share


def reach(at: float, anchors: Sequence[float]) -> float:
    """(s - s_0)(s - s_1) / (s_0 - s_1)^ROUGHNESS, coordinates in steps, the newest anchors; a
    missing one lies a step further back."""
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
        revisit: error of an anchor as the forecast when the sampler comes to its place again.
    """

    estimate: "Rates"
    truth: "Rates"
    ratio: float
    revisit: float


class Rates:
    """Errors per reach, along the run: (coordinate, error / reach), in order of the coordinate."""

    def __init__(self, rates: Sequence[tuple[float, float]]) -> None:
        self.places = [place for place, _ in rates]
        self.logs = [math.log(max(rate, TINY)) for _, rate in rates]

    def at(self, place: float) -> float:
        """The rate there: its logarithm interpolated, constant beyond the ends; 0 if nothing is
        known."""
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
        place = schedule.point(sigma_at(schedule, call.position)).coordinate
        for row in call.rows:
            known = anchors.setdefault(row.lane, [])  # rising
            near = known[bisect_left(known, place - SAME_PLACE) :][:1]
            if near and near[0] <= place + SAME_PLACE:
                measured = [] if row.hindcast is None else [row.hindcast]
                again.setdefault(row.lane, []).extend(measured)
                continue
            for found, value in ((drafts, row.error), (hindcasts, row.hindcast)):
                rates = found.setdefault(row.lane, [])
                if known and value is not None and (not rates or place > rates[-1][0]):
                    rates.append((place, value / reach(place, known)))
            if row.verdict != "accepted" and (not known or place > known[-1]):
                known.append(place)
    ratio = _ratio(drafts, hindcasts)
    merged = {}
    for lane in anchors:
        estimates = {place: rate / ratio for place, rate in hindcasts[lane]} | dict(drafts[lane])
        truths = {place: rate * ratio for place, rate in drafts[lane]} | dict(hindcasts[lane])
        estimate, truth = Rates(sorted(estimates.items())), Rates(sorted(truths.items()))
        merged[lane] = Law(estimate, truth, ratio, median(again[lane]) if again.get(lane) else 0.0)
    return merged


def _ratio(
    drafts: Mapping[int, Sequence[tuple[float, float]]],
    hindcasts: Mapping[int, Sequence[tuple[float, float]]],
) -> float:
    """Median over all hindcasts of hindcast / what a check would have said there; 1 if no draft was
    checked."""
    ratios = []
    for lane, rates in drafts.items():
        law = Rates(rates)
        ratios += [
            rate / law.at(place)
            for place, rate in hindcasts[lane]
            if rates and rates[0][0] <= place <= rates[-1][0]
        ]
    return max(median(ratios), TINY) if ratios else 1.0


class Clock:
    """Seconds of a call, by the medians of a recorded run, in proportion to the rows.

    A pass over some of the rows takes more than its share: the recorded calls that were mixed tell
    how much more.
    """

    def __init__(self, recorded: RunReport) -> None:
        self.recorded = recorded
        self.full: dict[int, float] = {}  # rows of a call -> seconds of one of them, computed
        drafted = [call for call in recorded.calls if call.accepted]
        self.draft = median(call.seconds / len(call.rows) for call in drafted) if drafted else None
        self.mixed = 1.0
        mixed = []
        for call in recorded.calls:
            verdicts = [row.verdict for row in call.rows]
            computed = sum(verdict != "accepted" for verdict in verdicts)
            if 0 < computed < len(verdicts):
                drafts = sum(verdict != "computed" for verdict in verdicts)
                mixed.append(call.seconds / self.seconds(len(verdicts), drafts, computed))
        self.mixed = median(mixed) if mixed else 1.0

    def seconds(self, rows: int, drafts: int, computed: int) -> float:
        """Seconds of a call of so many rows, of which so many are drafted and computed (a rejected
        row is both)."""
        if rows not in self.full:
            self.full[rows] = (self.recorded.full_seconds(rows) or TINY) / max(rows, 1)
        full = self.full[rows]
        draft = DRAFT_SHARE * full if self.draft is None else self.draft
        return (draft * drafts + full * computed) * (self.mixed if 0 < computed < rows else 1.0)
