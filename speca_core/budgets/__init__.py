"""Budgets: who may draft, for how long, and how large an error passes.

A new one is a file here and a line in the table.
"""

from .accumulated import Accumulated
from .base import Budget, LanePolicy, LaneState, LimitedPolicy, Limits, Reason
from .distance import Distance
from .hindcast import Hindcast
from .interval import Interval
from .mask import Mask
from .target import Target
from .threshold import Threshold

_ALL: tuple[type[Budget], ...] = (
    Distance,
    Accumulated,
    Target,
    Threshold,
    Hindcast,
    Interval,
    Mask,
)
BUDGETS = {budget.name: budget for budget in _ALL}

__all__ = [
    "BUDGETS",
    "Accumulated",
    "Budget",
    "Distance",
    "Hindcast",
    "Interval",
    "LanePolicy",
    "LaneState",
    "LimitedPolicy",
    "Limits",
    "Mask",
    "Reason",
    "Target",
    "Threshold",
]
