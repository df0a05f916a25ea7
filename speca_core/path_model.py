"""What is known beforehand about a sampling path, as linear algebra on a few numbers.

Let z = [x_0, v_0, ..., v_(T-1)] be a plain run: the first latent, and the slopes that the sampler
is served at its T turns. The latent at turn n is x_n = x_0 + sum_m C_nm v_m, with C the sampler's
accumulated strides (`SamplerResponse`). The Gram matrix G_ij = <z_i, z_j> of earlier runs then says
everything that a linear forecast needs to know:

* the best estimate of a slope, or of a whole latent, from x_0 and the slopes that were computed
  (least squares; the weights need not sum to one);
* how far such an estimate will be off, for a slope and for the last latent;
* hence which turns are best computed, if so many may be.

A computed slope is not the one of the plain run: the model answers to the latent that it is shown,
and that is off by an error e. The answer is taken as v_n + J e + nu |e| times noise (`reaction`).

Nothing here is as large as a latent. Tensors are float64 on the CPU; the first dimension, M, counts
courses that are followed at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter

import torch

from .plans import Plans, searched
from .reaction import Reaction
from .sampler_response import EXACT, LAGS, SamplerResponse
from .trial import Trial, lead_at, ratio_at

WINDOW = 3  # newest computed slopes that an estimate uses, besides x_0; more measured no better
# An estimate is pulled towards reusing the newest slope, the more the less it can be sure: other
# pictures than the profile's have other inner products. Both in mean squares of a slope.
RIDGE = 1e-5  # for one that is sure
DOUBT = 0.5  # for one that is expected to be off by as much as what it estimates
REACTS = 0.8  # of the reaction that was measured: so drafted runs come nearest (ADR 18)
# Behind a stage nothing takes errors back, and the reaction understates how they add up. With this
# the median of 14 pictures was 0.6 to 1.4 times as far off as foretold, cut at 4 to 24 of 28 steps.
ONWARD = 2.0
TINY = 1e-12
SEARCHED = 600  # computed turns times turns up to which a plan is searched; larger take seconds
# Per cent of the turns that reports have plans for.
TOLD = 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80, 100
REMEMBERED = 4096  # courses of which the arithmetic is kept


@dataclass(frozen=True)
class Courses:
    """M courses up to their newest computed turn. Index 0 of a regressor is x_0, index j the slope
    that was computed at the j-th computed turn.

    Attributes:
        now, before: [M], the newest computed turn, and the one before it.
        inner: [M, R, R], inner products of the regressors.
        cross: [M, R, T + 1], inner products of the regressors with z.
        here: [M, R], x_now - x_0 in terms of the regressors.
    """

    now: torch.Tensor
    before: torch.Tensor
    inner: torch.Tensor
    cross: torch.Tensor
    here: torch.Tensor


class PathModel:
    """What is known of the runs of one model, sampler and schedule.

    Args:
        gram: [T + 1, T + 1], of z, mean over the numbers of a latent; float64.
        response: of the sampler, with T turns.
        reaction: of the model to a latent that is off, at the sampler's T noise levels.
        trials: of plans on this very model; they know the best first turns, and distances.
        surprise: of accelerated runs so far, see `Profile`; may be changed between runs.
        onward: how many of the last turns are another sampler's, of Euler's kind, which computes
            all of them: what a stage does wrong may grow in the next one.
    """

    def __init__(
        self,
        gram: torch.Tensor,
        response: SamplerResponse,
        reaction: Reaction,
        trials: Sequence[Trial] = (),
        surprise: float = 1.0,
        onward: int = 0,
    ) -> None:
        self.gram = gram
        self.response = response
        self.reaction = Reaction(REACTS * reaction.linear, REACTS * reaction.noise)
        self.trials = trials
        self.surprise = surprise
        self.end = len(response.sigmas)
        self.turns = self.end - onward
        self.moves = torch.zeros(self.end + 1, self.end + 1, dtype=torch.float64)
        for turn, strides in enumerate(response.strides):
            for lag, stride in enumerate(strides[: turn + 1]):
                self.moves[turn + 1, 1 + turn - lag] = stride
        self.moves = self.moves.cumsum(0)  # [turn, z]: x_turn - x_0
        last = self.moves[-1].clone()
        last[0] += 1
        self.size = float((last @ gram @ last).clamp_min(TINY).sqrt())  # of the last latent
        self.slope_scale = float(gram.diagonal()[1:].mean())
        middle = response.strides[1 : self.turns - 1]  # the last one of many is Euler's
        # Heun's look back at every second turn, from another place. UniPC's correct the past.
        self.multistep = 1 < len(response.strides[0]) < LAGS and all(
            abs(back) > EXACT * abs(newest) for newest, back, *_ in middle
        )
        self.levels = torch.tensor([*response.sigmas, 0.0], dtype=torch.float64)
        remembered = lru_cache(maxsize=REMEMBERED)
        self._course = remembered(self._follow)
        self._weights = remembered(self._slope_weights)
        self._movements = remembered(self._movement_weights)
        self._innovations = remembered(self._expected_innovation)
        self._distances = remembered(self._distance)
        self._fewer = remembered(self._fewer_steps)
        self._plans = remembered(self._plan)

    # --- many courses at once --------------------------------------------------------------------

    def begin(self, courses: int = 1) -> Courses:
        """Courses whose turn 0 was computed."""
        z = torch.arange(2).expand(courses, 2)
        return Courses(
            now=torch.zeros(courses, dtype=torch.long),
            before=torch.zeros(courses, dtype=torch.long),
            inner=self.gram[z[:, :, None], z[:, None, :]],
            cross=self.gram[z],
            here=torch.zeros(courses, 2, dtype=torch.float64),
        )

    def extend(self, courses: Courses, turn: torch.Tensor, held: bool = False) -> Courses:
        """The courses after `turn` [M], behind their newest one, was computed as well; `held`: see
        `_latent`."""
        here = self._latent(courses, turn, held)
        # e, the latent minus the plain one, against z, the regressors and itself.
        moved = self.moves[turn]
        e_z = self._bilinear(here, courses.cross) - moved @ self.gram
        e_r = self._bilinear(here, courses.inner) - self._bilinear(moved, courses.cross.mT)
        e_e = ((e_r * here).sum(-1) - (e_z * moved).sum(-1)).clamp_min(0)
        slope, each = 1 + turn, torch.arange(len(turn))
        linear, noise = self.reaction.linear[turn], self.reaction.noise[turn]
        new_z = self.gram[slope] + linear[:, None] * e_z
        new_r = courses.cross.mT[each, slope] + linear[:, None] * e_r
        square = (
            self.gram[slope, slope]
            + 2 * linear * e_z[each, slope]
            + (linear.square() + noise.square()) * e_e
        )
        inner = torch.cat([courses.inner, new_r[:, None, :]], 1)
        column = torch.cat([new_r, square[:, None]], 1)
        return Courses(
            now=turn,
            before=courses.now,
            inner=torch.cat([inner, column[:, :, None]], 2),
            cross=torch.cat([courses.cross, new_z[:, None, :]], 1),
            here=torch.cat([here, torch.zeros_like(here[:, :1])], 1),
        )

    def foretell(self, plans: torch.Tensor) -> torch.Tensor:
        """How far the last latent will be off, [M], relative to its size.

        Args:
            plans: [M, K], computed turns of each course, rising from 0.
        """
        courses = self.begin(len(plans))
        for turn in plans[:, 1:].unbind(1):
            courses = self.extend(courses, turn)
        return self._final_error(courses)

    def fewer_steps(self, count: int) -> float | None:
        """How far off the last latent of the plain run in `count` steps will be, relative to its
        size; None for samplers that look back: with longer steps they look elsewhere."""
        return None if len(self.response.strides[0]) > 1 else self._fewer(count)

    def _fewer_steps(self, count: int) -> float:
        courses = self.begin()
        for step in range(1, count):
            turn = torch.tensor([step * self.turns // count])
            courses = self.extend(courses, turn, held=True)
        return float(self._final_error(courses, held=True))

    def _final_error(self, courses: Courses, held: bool = False) -> torch.Tensor:
        for turn in range(self.turns, self.end):
            courses = self.extend(courses, torch.full_like(courses.now, turn), held)
            held = True
        end = torch.full_like(courses.now, self.end)
        off = self._off(courses, self._latent(courses, end, held), self.moves[end])
        return off.clamp_min(TINY).sqrt() / self.size

    def _off(self, courses: Courses, estimate: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """How far an estimate [M, R] is expected to be from `wanted` [M, T + 1], which is given in
        z: mean squares, [M]."""
        return (
            (self._bilinear(estimate, courses.inner) * estimate).sum(1)
            - 2 * (self._bilinear(estimate, courses.cross) * wanted).sum(1)
            + self._square(wanted)
        )

    def _square(self, wanted: torch.Tensor) -> torch.Tensor:
        """Mean squares, [M], of what is given in z."""
        return ((wanted @ self.gram) * wanted).sum(1)

    @staticmethod
    def _bilinear(rows: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
        """[M, R] x [M, R, S] -> [M, S]."""
        return (rows[:, None, :] @ matrices)[:, 0, :]

    def _latent(self, courses: Courses, turn: torch.Tensor, held: bool = False) -> torch.Tensor:
        """The estimate of x_turn - x_0, [M, R], with which the sampler arrives there. `held`: as in
        one long step."""
        prior, movement = courses.here.clone(), self.moves[turn] - self.moves[courses.now]
        prior[:, -1] += movement.sum(1)
        if self.multistep and prior.shape[1] > 2:
            bend = self._bend(courses, turn)
            prior[:, -1] += bend
            prior[:, -2] -= bend
        if held:
            return prior
        return self._estimate(courses, prior, self.moves[turn], self._square(movement))

    def _bend(self, courses: Courses, turn: torch.Tensor) -> torch.Tensor:
        """What one long step of a multistep sampler adds of the newest slope, and takes of the one
        before, [M]. DPM-Solver++(2M) has denoised pictures D on a line in log sigma:

            x_t = (s_t / s) x + (1 - s_t / s) (D + h / (2 h') (D - D')),  h = log(s / s_t),

        with D = x - s v, and x - x' as the mean of both slopes has it. The last step has no line.
        """
        there, here, before = (
            self.levels[turn],
            self.levels[courses.now],
            self.levels[courses.before],
        )
        log = (here / there.clamp_min(TINY)).log() / (before / here).log()
        bend = -(1 - there / here) * log / 2 * (here + before) / 2
        return torch.where((there > 0) & (turn <= self.turns), bend, 0.0)

    def _estimate(
        self, courses: Courses, prior: torch.Tensor, wanted: torch.Tensor, size: torch.Tensor
    ) -> torch.Tensor:
        """The estimate [M, R] of `wanted` [M, T + 1], which is given in z: `prior` [M, R], with
        corrections of the regressors that are used. `size` [M] is the mean square of what is
        unknown of it."""
        used = _used(prior.shape[1])
        inner, cross = courses.inner[:, used], courses.cross[:, used]
        missing = self._bilinear(wanted, cross.mT) - self._bilinear(prior, inner.mT)
        unit = self.slope_scale * torch.eye(len(used), dtype=torch.float64)

        def corrected(ridge: torch.Tensor) -> torch.Tensor:
            estimate = prior.clone()
            ridges = (ridge[:, None, None] + TINY) * unit
            estimate[:, used] += torch.linalg.solve(inner[:, :, used] + ridges, missing)
            return estimate

        sure = torch.full_like(size, RIDGE)
        off = self._off(courses, corrected(sure), wanted).clamp_min(0)
        return corrected(sure + DOUBT * off / size.clamp_min(TINY))

    # --- one course ------------------------------------------------------------------------------

    def _follow(self, turns: tuple[int, ...]) -> Courses:
        if len(turns) == 1:
            return self.begin()
        return self.extend(self._course(turns[:-1]), torch.tensor(turns[-1:]))

    def slope_weights(self, turns: tuple[int, ...], turn: int) -> list[float]:
        """The estimate of the plain run's slope at `turn`.

        Args:
            turns: those computed so far, rising from 0.
            turn: any.

        Returns:
            Weights of x_0 and of the newest `WINDOW` computed slopes, or fewer, oldest first.
        """
        return self._weights(turns, turn)

    def _slope_weights(self, turns: tuple[int, ...], turn: int) -> list[float]:
        stride, *earlier = self.response.strides[turn]
        if turn > turns[-1] and not any(earlier):
            # So that drafts land where the plan has them: longer movements are doubted more.
            return [weight / stride for weight in self.movement_weights(turns, turn)]
        courses = self._course(turns)
        prior = torch.zeros_like(courses.here)
        prior[:, -1] = 1
        wanted = torch.zeros(1, self.end + 1, dtype=torch.float64)
        wanted[:, 1 + turn] = 1
        estimate = self._estimate(courses, prior, wanted, self._square(wanted))
        return estimate[0, _used(prior.shape[1])].tolist()

    def movement_weights(self, turns: tuple[int, ...], turn: int) -> list[float]:
        """How the latent at `turn`, the newest computed one or one after it, should move until the
        next, in terms of the same tensors as in `slope_weights`. At a computed turn that includes
        what the drafts before it should have moved it by."""
        return self._movements(turns, turn)

    def _movement_weights(self, turns: tuple[int, ...], turn: int) -> list[float]:
        courses = self._course(turns)
        here = courses.here
        if turn != turns[-1]:
            here = self._latent(courses, torch.tensor([turn]))
        move = self._latent(courses, torch.tensor([turn + 1])) - here
        return move[0, _used(move.shape[1])].tolist()

    def expected_innovation(self, turns: tuple[int, ...], turn: int) -> float:
        """How far the slope that is computed next, at `turn`, is expected to be from its estimate,
        relative to its size."""
        return self._innovations(turns, turn)

    def _expected_innovation(self, turns: tuple[int, ...], turn: int) -> float:
        before, after = self._course(turns), self._course((*turns, turn))
        size = float(after.inner[0, -1, -1].clamp_min(TINY))
        used = _used(before.here.shape[1])
        w = torch.tensor(self.slope_weights(turns, turn), dtype=torch.float64)
        off = (
            size
            - 2 * float(w @ after.inner[0, used, -1])
            + float(w @ before.inner[0][used][:, used] @ w)
        )
        return math.sqrt(max(off, TINY) / size)

    # --- plans -----------------------------------------------------------------------------------

    def distance(self, turns: Sequence[int]) -> float:
        """How far the last latent of the median picture will be off, relative to its size, if
        these turns are computed.

        Half of what accelerated runs surprise by, in logarithms, is found again in their last
        latents.
        """
        measured = ratio_at(self.trials, len(turns) / self.turns)
        if self.turns < self.end:
            measured *= ONWARD
        return self._distances(tuple(turns)) * math.sqrt(self.surprise) * measured

    def _distance(self, turns: tuple[int, ...]) -> float:
        return float(self.foretell(torch.tensor([turns])))

    def plan(self, count: int) -> tuple[int, ...]:
        """The best plan that is found for `count` computed turns, 1 or more."""
        return self._plans(count)

    def _plan(self, count: int) -> tuple[int, ...]:
        lead = min(lead_at(self.trials, count, self.turns), count)
        later = count - lead
        # Two starts: turns evenly spread over the run, and over what the lead leaves.
        even = sorted({*range(lead), *(turn * self.turns // count for turn in range(lead, count))})
        spread = [lead + i * (self.turns - lead) // max(later, 1) for i in range(later)]
        starts = [tuple(even), (*range(lead), *spread)]
        if count * self.turns <= SEARCHED:
            return min(searched(self.foretell, self.turns, starts, lead), key=itemgetter(0))[1]
        return min(starts, key=self._distances)

    def plan_within(self, distance: float) -> tuple[int, ...]:
        """The plan of the fewest computed turns whose foretold distance is within `distance`."""
        low, high = 1, self.turns
        while low < high:
            middle = (low + high) // 2
            if self.distance(self.plan(middle)) <= distance:
                high = middle
            else:
                low = middle + 1
        return self.plan(low)

    def plans(self) -> Plans:
        """The plans for some numbers of computed turns."""
        counts = sorted({max(1, round(share * self.turns / 100)) for share in TOLD})
        plans = [self.plan(count) for count in counts]
        return Plans(self.turns, [(self.distance(plan), plan) for plan in plans])


def _used(regressors: int) -> list[int]:
    """Which regressors an estimate uses: x_0 and the newest slopes."""
    return [0, *range(max(1, regressors - WINDOW), regressors)]
