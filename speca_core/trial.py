"""What became of plans that were tried on the user's own model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Trial:
    """The plan of one speed that was the best of those tried.

    Attributes:
        share: of the sampler's turns that the plan computes, above 0, at most 1.
        lead: turns that it begins with.
        ratio: distance of the last latent to the plain one, measured over foretold; geometric mean
            of the pictures tried.
    """

    share: float
    lead: int
    ratio: float


def lead_at(trials: Sequence[Trial], share: float) -> int | None:
    """How many computed turns stand at the beginning of a plan: as many as in the trial at the
    nearest share. None if there were none."""
    nearest = min(trials, key=lambda trial: abs(trial.share - share), default=None)
    return nearest.lead if nearest else None


def ratio_at(trials: Sequence[Trial], share: float) -> float:
    """Measured over foretold distance at a share, between the trials on straight lines of the
    logarithm; 1 if there were none."""
    known = sorted((trial.share, math.log(trial.ratio)) for trial in trials)
    if not known:
        return 1.0
    value = known[0][1] if share <= known[0][0] else known[-1][1]
    for (low, before), (high, after) in pairwise(known):
        if low <= share <= high and low < high:
            value = before + (after - before) * (share - low) / (high - low)
    return math.exp(value)
