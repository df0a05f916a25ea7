"""Which turns of a sampler are computed, and what that is foretold to cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from .errors import ConfigError

MOST_TURNS = 1000  # that a report may tell plans for


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
    """The plans of a run, as its report carries them.

    Args:
        turns: of the sampler.
        ladder: (foretold distance, plan) for 1, 2, ... `turns` computed turns.
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
        fits = isinstance(source, (list, tuple)) and len(source) <= MOST_TURNS
        turns, ladder = len(source) if fits else 0, []
        for count, entry in enumerate(source if fits else (), 1):
            distance, *plan = entry if isinstance(entry, (list, tuple)) else (None,)
            whole = all(isinstance(turn, int) and 0 <= turn < turns for turn in plan)
            if not isinstance(distance, float) or len(plan) > count or not plan or not whole:
                break
            ladder.append((distance, tuple(plan)))
        if len(ladder) < turns or not ladder:
            raise ConfigError(
                "plans: found something else; expected a distance and a plan for each number of "
                "computed turns. Queue the graph to measure it."
            )
        return cls(turns, ladder)

    def to_json(self) -> list[list[float]]:
        """[[distance, turn, turn, ...], ...]."""
        return [[float(f"{distance:.4g}"), *plan] for distance, plan in self.ladder]

    def plan(self, count: int) -> tuple[int, ...]:
        """See `Planner.plan`."""
        return self.ladder[min(count, self.turns) - 1][1]

    def plan_within(self, distance: float) -> tuple[int, ...]:
        """See `Planner.plan_within`."""
        found = (plan for foretold, plan in self.ladder if foretold <= distance)
        return next(found, self.ladder[-1][1])

    def distance(self, computed: float) -> float:
        """The foretold distance for a number of computed turns, not necessarily a whole one."""
        low = min(max(int(computed), 1), self.turns)
        high = min(low + 1, self.turns)
        share = min(max(computed - low, 0.0), 1.0)
        return self.ladder[low - 1][0] * (1 - share) + self.ladder[high - 1][0] * share
