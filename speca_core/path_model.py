"""What a profile says of a run: how to estimate what was not computed, how far off that will be,
and which turns are best computed. `courses.py` has the algebra."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

import torch

from .courses import TINY, Courses, PathAlgebra, in_use
from .plans import ROUNDS, Plans, searched
from .reaction import Reaction
from .sampler_response import SamplerResponse
from .trial import Trial, lead_at, ratio_at

# Behind a stage nothing takes errors back, and the reaction understates how they add up. With this
# the median of 14 pictures was 0.6 to 1.4 times as far off as foretold, cut at 4 to 24 of 28 steps.
ONWARD = 2.0
SEARCHED = 600  # computed turns times turns up to which a plan is searched; larger take seconds
# A plan of more than half of the turns may begin with half of its own without a gap, or with three
# fifths, because a model may tolerate no error at high noise. Foretold, that costs something: the
# longest beginning is taken that costs at most so many times the distance, and none in runs of so
# few turns (ADR 19).
INSURANCE, FEW = 1.6, 8
# Per cent of the turns that reports have plans for.
TOLD = 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80, 100
REMEMBERED = 4096  # courses of which the arithmetic is kept


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
        self.response = response
        self.trials = trials
        self.surprise = surprise
        self.turns = len(response.sigmas) - onward
        self.searched = max(1, SEARCHED // self.turns)  # computed turns, at most
        self.onward = onward
        self.algebra = PathAlgebra(gram, response, reaction, self.turns)
        remembered = lru_cache(maxsize=REMEMBERED)
        self._course = remembered(self._follow)
        self._weights = remembered(self._slope_weights)
        self._movements = remembered(self._movement_weights)
        self._innovations = remembered(self._expected_innovation)
        self._distances = remembered(self._distance)
        self._fewer = remembered(self.algebra.fewer_steps)
        self._plans = remembered(self._plan)

    # --- one course ------------------------------------------------------------------------------

    def _follow(self, turns: tuple[int, ...]) -> Courses:
        if len(turns) == 1:
            return self.algebra.begin()
        return self.algebra.extend(self._course(turns[:-1]), torch.tensor(turns[-1:]))

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
        wanted = torch.zeros(1, self.algebra.end + 1, dtype=torch.float64)
        wanted[:, 1 + turn] = 1
        estimate = self.algebra.estimate(courses, prior, wanted, self.algebra.square(wanted))
        return estimate[0, in_use(prior.shape[1])].tolist()

    def movement_weights(self, turns: tuple[int, ...], turn: int) -> list[float]:
        """How the latent at `turn`, the newest computed one or one after it, should move until the
        next, in terms of the same tensors as in `slope_weights`. At a computed turn that includes
        what the drafts before it should have moved it by."""
        return self._movements(turns, turn)

    def _movement_weights(self, turns: tuple[int, ...], turn: int) -> list[float]:
        courses = self._course(turns)
        here = courses.here
        if turn != turns[-1]:
            here = self.algebra.latent(courses, torch.tensor([turn]))
        move = self.algebra.latent(courses, torch.tensor([turn + 1])) - here
        return move[0, in_use(move.shape[1])].tolist()

    def expected_innovation(self, turns: tuple[int, ...], turn: int) -> float:
        """How far the slope that is computed next, at `turn`, is expected to be from its estimate,
        relative to its size."""
        return self._innovations(turns, turn)

    def _expected_innovation(self, turns: tuple[int, ...], turn: int) -> float:
        before, after = self._course(turns), self._course((*turns, turn))
        size = float(after.inner[0, -1, -1].clamp_min(TINY))
        used = in_use(before.here.shape[1])
        w = torch.tensor(self.slope_weights(turns, turn), dtype=torch.float64)
        off = (
            size
            - 2 * float(w @ after.inner[0, used, -1])
            + float(w @ before.inner[0][used][:, used] @ w)
        )
        return math.sqrt(max(off, TINY) / size)

    def fewer_steps(self, count: int) -> float | None:
        """How far off the last latent of the plain run in `count` steps will be, relative to its
        size; None for samplers that look back: with longer steps they look elsewhere."""
        return None if len(self.response.strides[0]) > 1 else self._fewer(count)

    # --- plans -----------------------------------------------------------------------------------

    def distance(self, turns: Sequence[int]) -> float:
        """How far the last latent of the median picture will be off, relative to its size, if
        these turns are computed.

        Half of what accelerated runs surprise by, in logarithms, is found again in their last
        latents.
        """
        measured = ratio_at(self.trials, len(turns) / self.turns)
        if self.onward:
            measured *= ONWARD
        return self._distances(tuple(turns)) * math.sqrt(self.surprise) * measured

    def _distance(self, turns: tuple[int, ...]) -> float:
        return float(self.algebra.foretell(torch.tensor([turns])))

    def plan(self, count: int) -> tuple[int, ...]:
        """The best plan that is found for `count` computed turns, 1 or more."""
        return self._plans(count)[1]

    def lead(self, count: int) -> int:
        """How many turns without a gap that plan was chosen for, at its beginning."""
        return self._plans(count)[0]

    def _plan(self, count: int) -> tuple[int, tuple[int, ...]]:
        """(lead, plan)."""
        tried = lead_at(self.trials, count / self.turns)
        insured = FEW < self.turns < 2 * count
        leads = {1, count // 2, 3 * count // 5} if insured else {1}
        leads = leads if tried is None else {min(tried, count)}
        starts = [(lead, start) for lead in leads for start in self._starts(count, lead)]
        rounds = ROUNDS if count <= self.searched else 0
        found = searched(self.algebra.foretell, self.turns, starts, rounds)
        best = {
            lead: min(each for each in found if each[1][:lead] == tuple(range(lead)))
            for lead in leads
        }
        least = min(error for error, _ in found)
        lead = max(lead for lead, (error, _) in best.items() if error <= INSURANCE * least)
        return lead, best[lead][1]

    def _starts(self, count: int, lead: int) -> list[tuple[int, ...]]:
        """Where a search begins: turns evenly spread over the run, or over what the lead leaves, or
        over the levels there. Of a level that is asked for twice the first turn is computed: its
        slope serves for the second, too. A longer plan than is searched for may also be the longest
        of those, and more."""
        again, later = self.response.again, count - lead
        first = [turn for turn in range(lead, self.turns) if not again[turn]]
        second = [turn for turn in range(lead, self.turns) if again[turn]]
        by_level = spread(first, later) if later < len(first) else first
        starts = [
            {*range(lead), *spread(range(self.turns), count)[lead:]},
            {*range(lead), *spread(range(lead, self.turns), later)},
            {*range(lead), *by_level, *second[: later - len(by_level)]},
        ]
        if count > self.searched:
            begun = {*range(lead), *self.plan(self.searched)}
            missing = [turn for turn in range(self.turns) if turn not in begun]
            starts.append(begun | {*spread(missing, count - len(begun))})
        return sorted({tuple(sorted(start)) for start in starts if len(start) == count})

    def plan_within(self, distance: float) -> tuple[int, ...]:
        """The plan of the fewest computed turns whose foretold distance is within `distance`. Above
        half of many turns it may be missed, for a longer one."""

        def enough(count: int) -> bool:
            return self.distance(self.plan(count)) <= distance

        half = self.turns // 2
        if half and enough(half):
            return self.plan(1 + bisect_left(range(1, half), True, key=enough))
        # Longer plans are insured, and may be further off than shorter ones: of those that are
        # searched for, each is looked at.
        last = max(half, min(self.searched, self.turns - 1))
        count = next(filter(enough, range(half + 1, last + 1)), None)
        longer = range(last + 1, self.turns)
        return self.plan(count or last + 1 + bisect_left(longer, True, key=enough))

    def plans(self) -> Plans:
        """The plans for some numbers of computed turns."""
        counts = sorted({max(1, round(share * self.turns / 100)) for share in TOLD})
        plans = [self.plan(count) for count in counts]
        return Plans(self.turns, [(self.distance(plan), plan) for plan in plans])


def spread(turns: Sequence[int], count: int) -> list[int]:
    """`count` of them, evenly, from the first on."""
    return [turns[i * len(turns) // count] for i in range(count)]
