"""What becomes of a run that computes some of its turns, as linear algebra on a few numbers.

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

from dataclasses import dataclass

import torch

from .reaction import Reaction
from .sampler_response import LongStep, SamplerResponse

WINDOW = 3  # newest computed slopes that an estimate uses, besides x_0; more measured no better
# An estimate is pulled towards one long step of the sampler (of a slope: towards the newest), the
# more the less it can be sure: other pictures than the profile's have other inner products. Both in
# mean squares of a slope.
RIDGE = 1e-5  # for one that is sure
DOUBT = 0.5  # for one that is expected to be off by as much as what it estimates
REACTS = 0.8  # of the reaction that was measured: so drafted runs come nearest (ADR 18)
ASIDE = 2.0  # of it, between Heun's two slopes at a level: the beds have 0.8, 1.2, and 2.5 (rough)
TINY = 1e-12


@dataclass(frozen=True)
class Courses:
    """M courses up to their newest computed turn. Index 0 of a regressor is x_0, index j the slope
    that was computed at the j-th computed turn.

    Attributes:
        turns: [M, R - 1], the computed turns, rising from 0; the newest is called now.
        inner: [M, R, R], inner products of the regressors.
        cross: [M, R, T + 1], inner products of the regressors with z.
        here: [M, R], x_now - x_0 in terms of the regressors.
    """

    turns: torch.Tensor
    inner: torch.Tensor
    cross: torch.Tensor
    here: torch.Tensor


class PathAlgebra:
    """Follows courses.

    Args:
        gram: [T + 1, T + 1], of z, mean over the numbers of a latent; float64.
        response: of the sampler, with T turns.
        reaction: of the model to a latent that is off, at the sampler's T noise levels.
        turns: of the sampler; those after them are another one's, of Euler's kind, which computes
            all of them.

    Attributes:
        moves: [T + 1, T + 1], x_n - x_0 in terms of z.
        size: of the last latent.
    """

    def __init__(
        self, gram: torch.Tensor, response: SamplerResponse, reaction: Reaction, turns: int
    ) -> None:
        self.reaction = Reaction(REACTS * reaction.linear, REACTS * reaction.noise)
        self.turns, self.end = turns, len(response.sigmas)
        self.moves = torch.zeros(self.end + 1, self.end + 1, dtype=torch.float64)
        for turn, strides in enumerate(response.strides):
            for lag, stride in enumerate(strides[: turn + 1]):
                self.moves[turn + 1, 1 + turn - lag] = stride
        # A profile has one slope for a level that is asked for twice, as by Heun. Where the latent
        # moves between, the model answers the first time to one that is off its path.
        again = torch.tensor([*response.again[1:], False], dtype=torch.float64)
        answers = ASIDE**2 * (self.reaction.linear.square() + self.reaction.noise.square())
        aside = again * answers * ((self.moves[1:] @ gram) * self.moves[1:]).sum(1)
        self.gram = gram + torch.diag(torch.nn.functional.pad(aside, (1, 0)))
        self.moves = self.moves.cumsum(0)  # [turn, z]: x_turn - x_0
        last = self.moves[-1].clone()
        last[0] += 1
        self.size = float((last @ gram @ last).clamp_min(TINY).sqrt())
        self.slope_scale = float(gram.diagonal()[1:].mean())
        self.long_step = response.long_step
        self.levels = torch.tensor([*response.sigmas, 0.0], dtype=torch.float64)

    def begin(self, courses: int = 1) -> Courses:
        """Courses whose turn 0 was computed."""
        z = torch.arange(2).expand(courses, 2)
        return Courses(
            turns=torch.zeros(courses, 1, dtype=torch.long),
            inner=self.gram[z[:, :, None], z[:, None, :]],
            cross=self.gram[z],
            here=torch.zeros(courses, 2, dtype=torch.float64),
        )

    def extend(self, courses: Courses, turn: torch.Tensor, held: bool = False) -> Courses:
        """The courses after `turn` [M], behind their newest one, was computed as well; `held`: see
        `latent`."""
        here = self.latent(courses, turn, held)
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
            turns=torch.cat([courses.turns, turn[:, None]], 1),
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

    def fewer_steps(self, count: int) -> float:
        """How far off the last latent of the plain run in `count` steps will be, relative to its
        size. Only for samplers that do not look back."""
        courses = self.begin()
        for step in range(1, count):
            turn = torch.tensor([step * self.turns // count])
            courses = self.extend(courses, turn, held=True)
        return float(self._final_error(courses, held=True))

    def _final_error(self, courses: Courses, held: bool = False) -> torch.Tensor:
        for turn in range(self.turns, self.end):
            courses = self.extend(courses, torch.full_like(courses.turns[:, 0], turn), held)
            held = True
        end = torch.full_like(courses.turns[:, 0], self.end)
        off = self._off(courses, self.latent(courses, end, held), self.moves[end])
        return off.clamp_min(TINY).sqrt() / self.size

    def _off(self, courses: Courses, estimate: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """How far an estimate [M, R] is expected to be from `wanted` [M, T + 1], which is given in
        z: mean squares, [M]."""
        return (
            (self._bilinear(estimate, courses.inner) * estimate).sum(1)
            - 2 * (self._bilinear(estimate, courses.cross) * wanted).sum(1)
            + self.square(wanted)
        )

    def square(self, wanted: torch.Tensor) -> torch.Tensor:
        """Mean squares, [M], of what is given in z."""
        return ((wanted @ self.gram) * wanted).sum(1)

    @staticmethod
    def _bilinear(rows: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
        """[M, R] x [M, R, S] -> [M, S]."""
        return (rows[:, None, :] @ matrices)[:, 0, :]

    def latent(self, courses: Courses, turn: torch.Tensor, held: bool = False) -> torch.Tensor:
        """The estimate of x_turn - x_0, [M, R], with which the sampler arrives there. `held`: as in
        one long step."""
        movement = self.moves[turn] - self.moves[courses.turns[:, -1]]
        if self.long_step is LongStep.EULER:
            prior = self._seen(courses, turn)
        else:
            prior = courses.here.clone()
            prior[:, -1] += movement.sum(1)
            if prior.shape[1] > 2:
                bend = self._bend(courses, turn)
                prior[:, -1] += bend
                prior[:, -2] -= bend
        if held:
            return prior
        estimate = self.estimate(courses, prior, self.moves[turn], self.square(movement))
        # Before its first draft a run is the plain one.
        drafted = turn[:, None] >= prior.shape[1]
        return torch.where(drafted, estimate, self.moves[turn, : prior.shape[1]])

    def _seen(self, courses: Courses, turn: torch.Tensor) -> torch.Tensor:
        """x_turn - x_0, [M, R], if the sampler goes on with the slopes that it sees: for each turn
        that it looks back at, the newest of that time. For one that an estimate does not use any
        more stands the oldest that it uses."""
        regressors = courses.here.shape[1]
        start = courses.turns[:, -1]
        plain = start + 2 == regressors  # no draft so far: the sampler itself makes one more step
        start = start + plain
        here = torch.where(plain[:, None], self.moves[start, :regressors], courses.here)
        newest = (courses.turns[:, None] <= torch.arange(self.end)[:, None]).sum(2)
        used = newest.clamp_min(in_use(regressors)[1])
        return here.scatter_add(1, used, (self.moves[turn] - self.moves[start])[:, 1:])

    def _bend(self, courses: Courses, turn: torch.Tensor) -> torch.Tensor:
        """What one long step of the sampler adds of the newest slope, and takes of the one before,
        [M]; nothing behind the sampler's own turns. With `LongStep.HEUN` the step before went along
        its first slope alone: half of it is taken again, along the newest. DPM-Solver++(2M) has
        denoised pictures D on a line in log sigma:

            x_t = (s_t / s) x + (1 - s_t / s) (D + h / (2 h') (D - D')),  h = log(s / s_t),

        with D = x - s v. Here x - x' is taken as the mean of both slopes has it. The last step has
        no line.
        """
        before, now = courses.turns[:, -2:].unbind(1)
        there, here, before = self.levels[torch.stack([turn, now, before])]
        own = turn <= self.turns
        if self.long_step is LongStep.HEUN:
            return torch.where(own, (here - before) / 2, 0.0)
        log = (here / there.clamp_min(TINY)).log() / (before / here).log()
        bend = -(1 - there / here) * log / 2 * (here + before) / 2
        return torch.where(own & (there > 0), bend, 0.0)

    def estimate(
        self, courses: Courses, prior: torch.Tensor, wanted: torch.Tensor, size: torch.Tensor
    ) -> torch.Tensor:
        """The estimate [M, R] of `wanted` [M, T + 1], which is given in z: `prior` [M, R], with
        corrections of the regressors that are used. `size` [M] is the mean square of what is
        unknown of it."""
        used = in_use(prior.shape[1])
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


def in_use(regressors: int) -> list[int]:
    """Which regressors an estimate uses: x_0 and the newest slopes."""
    return [0, *range(max(1, regressors - WINDOW), regressors)]
