"""Which turns of a sampler are computed, and what that is foretold to cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from .errors import ConfigError

MOST_TURNS, MOST_PLANS = 1000, 64  # that a report may tell
ROUNDS = 12  # of a search
REACH = 4  # turns by which one is moved in a round
SAME_ERROR = 1e-6  # relative: a search goes on for no less


class Planner(Protocol):
    """Knows a good plan for every number of computed turns.

    Attributes:
        turns: of the sampler in the whole run.
    """

    turns: int

    def plan(self, count: int) -> tuple[int, ...]:
        """Turns to compute, rising from 0: `count` of them, 1 or more."""
        ...

    def plan_within(self, distance: float) -> tuple[int, ...]:
        """The shortest plan whose last latent is foretold to be within `distance` of the plain
        one, relative to its size."""
        ...


class Plans:
    """Some plans of a run, as its report carries them.

    Args:
        turns: of the sampler.
        ladder: (foretold distance, plan), by rising numbers of computed turns; the last plan
            computes all.
    """

    def __init__(self, turns: int, ladder: Sequence[tuple[float, tuple[int, ...]]]) -> None:
        self.turns = turns
        self.ladder = ladder

    @classmethod
    def read(cls, source: Any) -> Plans:
        """From `to_json`.

        Raises:
            ConfigError: it is something else.
        """
        fits = isinstance(source, (list, tuple)) and 0 < len(source) <= MOST_PLANS
        ladder: list[tuple[float, tuple[int, ...]]] = []
        for entry in source if fits else ():
            distance, *plan = entry if isinstance(entry, (list, tuple)) else (None,)
            whole = all(isinstance(turn, int) and 0 <= turn < MOST_TURNS for turn in plan)
            more = len(plan) > (len(ladder[-1][1]) if ladder else 0)
            if not isinstance(distance, float) or not whole or not more:
                fits = False
                break
            ladder.append((distance, tuple(plan)))
        if not fits or ladder[-1][1] != tuple(range(len(ladder[-1][1]))):
            raise ConfigError(
                "plans: found something else; expected distances and plans, by rising numbers of "
                "computed turns, up to all of them. Queue the graph to measure it."
            )
        return cls(len(ladder[-1][1]), ladder)

    def to_json(self) -> list[list[float]]:
        """[[distance, turn, turn, ...], ...]."""
        return [[float(f"{distance:.4g}"), *plan] for distance, plan in self.ladder]

    def plan(self, count: int) -> tuple[int, ...]:
        """See `Planner.plan`: the known one that is nearest."""
        return min((plan for _, plan in self.ladder), key=lambda plan: abs(len(plan) - count))

    def plan_within(self, distance: float) -> tuple[int, ...]:
        """See `Planner.plan_within`."""
        found = (plan for foretold, plan in self.ladder if foretold <= distance)
        return next(found, self.ladder[-1][1])

    def distance(self, computed: float) -> float:
        """The foretold distance for a number of computed turns, not necessarily a whole one."""
        counts = [len(plan) for _, plan in self.ladder]
        return float(np.interp(computed, counts, [foretold for foretold, _ in self.ladder]))


def searched(
    foretell: Callable[[torch.Tensor], torch.Tensor],
    turns: int,
    plans: Sequence[tuple[int, tuple[int, ...]]],
    rounds: int = ROUNDS,
) -> list[tuple[float, tuple[int, ...]]]:
    """The best plans, with their errors, that are found by moving one turn at a time. Searches go
    on side by side: foretelling many plans takes little longer than foretelling one.

    Args:
        foretell: errors [M] of plans [M, K].
        turns: of the sampler.
        plans: to begin from, all of K turns; with how many turns at their beginning stay.
    """
    begun = foretell(torch.tensor([plan for _, plan in plans])).tolist()
    best = [(error, plan) for error, (_, plan) in zip(begun, plans, strict=True)]
    going = [*range(len(plans))]
    for _ in range(rounds):
        moves = {which: _moved(best[which][1], turns, plans[which][0]) for which in going}
        tried = sorted({plan for moved in moves.values() for plan in moved})
        if not tried:
            break
        errors = dict(zip(tried, foretell(torch.tensor(tried)).tolist(), strict=True))
        for which in [*going]:
            found = min(((errors[plan], plan) for plan in moves[which]), default=best[which])
            if found[0] < best[which][0] * (1 - SAME_ERROR):
                best[which] = found
            else:
                going.remove(which)
    return best


def _moved(plan: tuple[int, ...], turns: int, lead: int) -> set[tuple[int, ...]]:
    """The plans in which one of its turns is moved by up to `REACH`."""
    moved = {
        tuple(sorted({*plan[:i], plan[i] + by, *plan[i + 1 :]}))
        for i in range(lead, len(plan))
        for by in range(-REACH, REACH + 1)
    }
    return {
        other
        for other in moved
        if len(other) == len(plan) and other[:lead] == plan[:lead] and other[-1] < turns
    }
