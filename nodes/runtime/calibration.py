"""Calibration: plans are tried on the user's own model, beside plain runs of the same noise."""

import functools
import hashlib
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, TypeVar

import comfy.sample
import torch

from ...speca_core.budgets import Target
from ...speca_core.call import Call
from ...speca_core.config import SpecaConfig
from ...speca_core.errors import SpecaError
from ...speca_core.profile import Profile, some_numbers
from ...speca_core.reaction import Reactions, Row
from ...speca_core.sampler_response import SamplerResponse
from ...speca_core.trial import Trial, lead_at
from .attach import accelerate
from .fingerprint import Key, fingerprint
from .profiles import STORE, ProfileStore
from .run import Run
from .targets.prediction import PredictionRun, PredictionTarget

SHARES = 0.7, 0.5, 0.4, 0.3, 0.25  # of the turns that a tried plan computes
USUAL = 0  # as many turns at the beginning of a plan as without trials
LEADS = 1, 3  # others that are tried
MARGIN = 0.9  # what takes the place of the usual must bring pictures so much nearer
TINY = 1e-9
T = TypeVar("T")

Seen = dict[float, tuple[torch.Tensor, torch.Tensor]]  # sigma -> some numbers of latent and slope


@dataclass(frozen=True)
class Recipe:
    """How pictures are made: the inputs of a KSampler, with a latent [1, ...]."""

    model: Any
    positive: Any
    negative: Any
    latent: torch.Tensor
    steps: int
    cfg: float
    sampler: str
    scheduler: str

    def sample(self, model: Any, seed: int, steps: int | None = None) -> torch.Tensor:
        """A latent [1, ...]."""
        noise = comfy.sample.prepare_noise(self.latent, seed)
        latent: torch.Tensor = comfy.sample.sample(
            model,
            noise,
            steps or self.steps,
            self.cfg,
            self.sampler,
            self.scheduler,
            self.positive,
            self.negative,
            self.latent,
            disable_pbar=True,
            seed=seed,
        )
        return latent

    @property
    def digest(self) -> str:
        """The same for the same pictures."""
        told = hashlib.sha256(fingerprint(self.model).encode())
        for setting in fields(self):
            if setting.name != "model":
                for part in _parts(getattr(self, setting.name)):
                    told.update(part)
        return told.hexdigest()


@dataclass(frozen=True)
class PlainResult:
    """A plain run: its latent, what was seen on the way, and what it teaches."""

    latent: torch.Tensor
    seen: Seen
    key: Key
    profile: Profile
    response: SamplerResponse


@dataclass(frozen=True)
class TrialResult:
    """A run with a plan: distance of its latent to the plain one, and the foretold one."""

    seed: int
    off: float
    foretold: float
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


@dataclass
class Witness:
    """What a run showed.

    Attributes:
        seen: some numbers of each latent that was computed and of the slope there, by sigma.
        response: of the sampler.
    """

    seen: Seen = field(default_factory=dict)
    response: SamplerResponse | None = None

    @property
    def run(self) -> type[Run]:
        """A kind of run that shows all this."""
        witness = self

        class WitnessTarget(PredictionTarget):
            def compute(self, call: Call, rows: Sequence[int]) -> Any:
                answers = super().compute(call, rows)
                x = torch.stack([self.x[row] for row in rows])
                slopes = (x - torch.stack([*answers])) / self.sigma
                witness.seen[self.sigma] = some_numbers(x).cpu(), some_numbers(slopes).cpu()
                return answers

        class WitnessRun(PredictionRun):
            target = WitnessTarget

            def __init__(
                self,
                config: SpecaConfig,
                model: Any,
                sigmas: Sequence[float],
                flow: bool,
                response: SamplerResponse | None,
                *known: Any,
            ) -> None:
                super().__init__(config, model, sigmas, flow, response, *known)
                witness.response = response
                if not any(known):  # neither a profile nor the wish to make one
                    raise SpecaError(NOTHING_LEARNED)

        return WitnessRun


class TrialStore(ProfileStore):
    """Holds the one profile that is on trial, and no file."""

    def __init__(self, profile: Profile | None = None) -> None:
        super().__init__()
        self.key: Key | None = None
        self.profile: Any = profile  # None: nothing yet

    def read(self, key: Key) -> list[Profile]:
        """That profile."""
        self.key = key
        return [self.profile] if self.profile is not None else []

    def keep(self, key: Key, profile: Profile) -> None:
        """In memory alone."""
        self.key, self.profile = key, profile


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
            kept.append(Trial(count / turns, lead_at(led_by(lead), count, turns), ratio))
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
        def make() -> PlainResult:
            witness, store = Witness(), TrialStore()
            plain = SpecaConfig(threshold=0.0)
            model = accelerate(self.recipe.model, plain, run=witness.run, profiles=store)
            latent = self.recipe.sample(model, seed)
            if store.key is None or store.profile is None or witness.response is None:
                raise SpecaError(NOTHING_LEARNED)
            return PlainResult(latent, witness.seen, store.key, store.profile, witness.response)

        return self._once(("plain", seed), make)

    def _trial(
        self, count: int, reaction: tuple[Row, ...] = (), trials: tuple[Trial, ...] = ()
    ) -> list[TrialResult]:
        """Each picture with its profile's plan of `count` turns."""
        found = []
        for seed, taught in self._taught.items():
            store = TrialStore(replace(taught, reaction=reaction, trials=trials))
            path = store.path(self.key, store.profile, self.response)
            if path is None:
                raise SpecaError(NOTHING_LEARNED)
            plan = path.plan(count)
            make = functools.partial(self._tried, store, seed, path.turns / count)
            # Plans of two leads may be the same one.
            key = seed, plan, replace(taught, reaction=reaction)
            off, seen = self._once(key, make)
            found.append(TrialResult(seed, off, path.distance(plan), seen))
        return found

    def _tried(self, store: TrialStore, seed: int, speedup: float) -> tuple[float, Seen]:
        witness = Witness()
        config = SpecaConfig(threshold=1.0, budget=Target(speedup=speedup))
        model = accelerate(self.recipe.model, config, run=witness.run, profiles=store)
        return distance(self.recipe.sample(model, seed), self._truth[seed]), witness.seen

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


NOTHING_LEARNED = (
    "SpeCa Calibrate: nothing can be learned of this model here; expected a sampler without noise "
    "(euler, dpmpp_2m, heun, uni_pc, ...) and guidance that is ComfyUI's own. Choose another "
    "sampler, or take the patch of the guidance away."
)


def distance(latent: torch.Tensor, truth: torch.Tensor) -> float:
    """||latent - truth|| / ||truth||."""
    off = (latent.float() - truth.float()).norm() / truth.float().norm()
    return max(float(off), TINY)


def _mean(values: Sequence[float]) -> float:
    """Geometric."""
    return math.exp(statistics.fmean(map(math.log, values)))


def _off(trials: Iterable[Sequence[TrialResult]]) -> float:
    """The mean distance of some trials."""
    return _mean([run.off for runs in trials for run in runs])


def _parts(value: Any) -> Iterator[bytes]:
    """All that makes a conditioning, a latent or a number what it is."""
    if isinstance(value, torch.Tensor):
        yield value.detach().float().cpu().numpy().tobytes()
    elif isinstance(value, Mapping):
        for key, inside in value.items():
            yield str(key).encode()
            yield from _parts(inside)
    elif isinstance(value, (list, tuple)):
        for inside in value:
            yield from _parts(inside)
    elif isinstance(value, (str, int, float, bool, type(None))):
        yield repr(value).encode()
    else:
        yield str(id(value)).encode()
