"""Calibration: plans are tried on the user's own model, beside plain runs of the same noise."""

import functools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from ...speca_core.errors import SpecaError
from ...speca_core.profile import Profile
from ...speca_core.reaction import Reactions, Row
from ...speca_core.trial import Trial
from .profiles import STORE, ProfileStore
from .trial_runs import (
    NOTHING_LEARNED,
    PlainResult,
    Recipe,
    Seen,
    TrialStore,
    distance,
    plain_run,
    trial_run,
)

SHARES = 0.7, 0.5, 0.4, 0.3, 0.25  # of the turns that a tried plan computes
USUAL = 0  # as many turns at the beginning of a plan as without trials
LEADS = 1, 3  # others that are tried
MARGIN = 0.9  # what takes the place of the usual must bring pictures so much nearer
T = TypeVar("T")


@dataclass(frozen=True)
class TrialResult:
    """A run with a plan: distance of its latent to the plain one, the foretold one, and how many
    turns at its beginning the plan had to compute."""

    seed: int
    off: float
    foretold: float
    lead: int
    seen: Seen


@dataclass(frozen=True)
class Point:
    """What became of the pictures at one share.

    Attributes:
        share: of the turns that were computed.
        calibrated, before, fewer: distance of the last latent to the plain one, geometric mean of
            the pictures: with what the calibration keeps, without it, and of the plain model with
            as many steps.
    """

    share: float
    calibrated: float
    before: float
    fewer: float


class Calibration:
    """Plain runs, trials, and what they say.

    Args:
        recipe: of the pictures. seeds: one for each.
        store: where the profile is kept in the end.
        tell: called before each run with (runs finished, runs in all).
    """

    unfinished: ClassVar[dict[str, dict[Any, Any]]] = {}  # results of runs, of the newest recipe

    def __init__(
        self,
        recipe: Recipe,
        seeds: Sequence[int],
        store: ProfileStore = STORE,
        tell: Callable[[int, int], None] = lambda *_: None,
    ) -> None:
        self.recipe = recipe
        self.seeds = seeds
        self.store = store
        self._tell = tell
        self._done = 0
        self._all = self._runs(recipe.steps)  # with a sampler that has two turns per step, about

    def run(self) -> list[Point]:
        """Calibrate. What was finished is kept if it is interrupted, and the next call goes on.

        Raises:
            SpecaError: nothing can be learned of this model with this sampler and guidance.
        """
        digest = self.recipe.digest
        if digest not in self.unfinished:
            self.unfinished.clear()  # it holds latents: one interrupted calibration is enough
        self._known = self.unfinished.setdefault(digest, {})
        plain = {seed: self._plain(seed) for seed in self.seeds}
        self._truth = {seed: found.latent for seed, found in plain.items()}
        first, *others = plain.values()
        self.key, self.response = first.key, first.response
        base = functools.reduce(Profile.merged, [found.profile for found in (first, *others)])
        # A picture is tried with what the others have taught.
        self._taught = {
            seed: functools.reduce(
                Profile.merged, [plain[other].profile for other in plain if other != seed] or [base]
            )
            for seed in plain
        }
        turns = len(self.response.sigmas)
        self._all, counts = self._runs(turns), counts_of(turns)
        reactions = Reactions()
        before = {count: self._trial(count) for count in counts}
        for trial in (trial for trials in before.values() for trial in trials):
            seen = plain[trial.seed].seen
            for sigma, (x, slope) in trial.seen.items():
                if sigma in seen:
                    reactions.add(sigma, x - seen[sigma][0], slope - seen[sigma][1])
        reaction = reactions.rows()
        usual = {count: self._trial(count, reaction) for count in counts}
        if _off(usual.values()) > MARGIN * _off(before.values()):
            reaction, usual = (), before
        led = {USUAL: usual} | {
            lead: {n: self._trial(n, reaction, led_by(lead)) for n in counts} for lead in LEADS
        }
        fewer = {count: self._fewer(count, turns) for count in counts}
        kept, points = [], []
        for count in counts:
            lead = best_lead({lead: found[count] for lead, found in led.items()})
            found = led[lead][count]
            ratio = _mean([one.off / one.foretold for one in found])
            begun = statistics.median_low(one.lead for one in found)
            kept.append(Trial(count / turns, begun, ratio))
            points.append(
                Point(count / turns, _off([found]), _off([before[count]]), _mean(fewer[count]))
            )
        self.store.keep(self.key, replace(base, reaction=reaction, trials=tuple(kept)))
        del self.unfinished[digest]
        return points

    def _runs(self, turns: int) -> int:
        """In all: plain ones, trials with two reactions and some leads, and fewer steps."""
        return len(self.seeds) * (1 + len(counts_of(turns)) * (3 + len(LEADS)))

    # --- runs ------------------------------------------------------------------------------------

    def _once(self, key: Any, make: Callable[[], T]) -> T:
        """The result of a run; a former, interrupted calibration may have it."""
        self._tell(self._done, self._all)
        if key not in self._known:
            self._known[key] = make()
        self._done += 1
        found: T = self._known[key]
        return found

    def _plain(self, seed: int) -> PlainResult:
        make = functools.partial(plain_run, self.recipe, seed)
        return self._once(("plain", seed), make)

    def _trial(
        self, count: int, reaction: tuple[Row, ...] = (), trials: tuple[Trial, ...] = ()
    ) -> list[TrialResult]:
        """Each picture with its profile's plan of `count` turns."""
        found = []
        for seed, taught in self._taught.items():
            profile = replace(taught, reaction=reaction, trials=trials)
            store = TrialStore(profile)
            path = store.path(self.key, profile, self.response)
            if path is None:
                raise SpecaError(NOTHING_LEARNED)
            plan = path.plan(count)
            # Reactions are measured on the first trials alone, and what is seen of a run is large.
            seen = not (reaction or trials)
            make = functools.partial(self._tried, store, seed, path.turns / count, seen)
            # Plans of two leads may be the same one.
            key = seed, plan, replace(taught, reaction=reaction)
            off, shown = self._once(key, make)
            found.append(TrialResult(seed, off, path.distance(plan), path.lead(count), shown))
        return found

    def _tried(
        self, store: TrialStore, seed: int, speedup: float, seen: bool
    ) -> tuple[float, Seen]:
        latent, shown = trial_run(self.recipe, seed, store, speedup)
        return distance(latent, self._truth[seed]), shown if seen else {}

    def _fewer(self, count: int, turns: int) -> list[float]:
        """Distance of each picture made with fewer steps by the plain model."""
        steps = max(1, round(self.recipe.steps * count / turns))

        def make(seed: int) -> float:
            return distance(self.recipe.sample(self.recipe.model, seed, steps), self._truth[seed])

        return [self._once((seed, steps), functools.partial(make, seed)) for seed in self.seeds]


def counts_of(turns: int) -> list[int]:
    """The numbers of computed turns that are tried."""
    return sorted({max(2, round(share * turns)) for share in SHARES}, reverse=True)


def led_by(lead: int) -> tuple[Trial, ...]:
    """What makes plans begin so."""
    return (Trial(1, lead, 1),) if lead != USUAL else ()


def best_lead(trials: Mapping[int, Sequence[TrialResult]]) -> int:
    """The best of some leads. Another than the usual one must be nearer for every picture, because
    few pictures judge noisily."""
    better = [
        lead
        for lead, runs in trials.items()
        if all(a.off < MARGIN * b.off for a, b in zip(runs, trials[USUAL], strict=True))
    ]
    return min([USUAL, *better], key=lambda lead: _off([trials[lead]]))


def _mean(values: Sequence[float]) -> float:
    """Geometric."""
    return math.exp(statistics.fmean(map(math.log, values)))


def _off(trials: Iterable[Sequence[TrialResult]]) -> float:
    """The mean distance of some trials."""
    return _mean([run.off for runs in trials for run in runs])
