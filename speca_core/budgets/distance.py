"""As few evaluations as keep the last latent within a foretold distance of the plain one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from ..plans import Planner
from ..settings import Settings
from .accumulated import Accumulated
from .base import LimitedPolicy
from .planned import PlannedPolicy


@dataclass(frozen=True)
class Distance(Settings):
    """The plan with the fewest evaluations whose foretold error is within the threshold.

    The error is ||x - x_plain|| / ||x_plain|| of the last latent, as the profile foretells it for
    the median picture. A picture that surprises at a computed step gets more evaluations than the
    plan has. Without a profile the budget is `Accumulated`.
    """

    name = "distance"
    help = (
        "The threshold is how far the result may be from the plain one, as your model's profile "
        "foretells it. Needs forecaster learned"
    )
    ignores_own_jumps: ClassVar[bool] = True
    judges_drafts: ClassVar[bool] = False

    def policy(self, threshold: float, planner: Planner | None = None) -> LimitedPolicy:
        """The policy of one lane."""
        if planner is None:
            return Accumulated().policy(threshold)
        search = partial(planner.plan_within, threshold)
        return PlannedPolicy(threshold, planner.turns, search, hurries=True)
