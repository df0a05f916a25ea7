"""Budgets: who may draft, how long, and how large an error passes. A new one is a file here and a line in the table."""

from .accumulated import Accumulated
from .base import Budget, Ledger, Limits, Outlook, Reason
from .interval import Interval
from .target import Target
from .threshold import Threshold

_ALL: tuple[type[Budget], ...] = (Accumulated, Target, Threshold, Interval)
BUDGETS = {budget.name: budget for budget in _ALL}

__all__ = ["BUDGETS", "Accumulated", "Budget", "Interval", "Ledger", "Limits", "Outlook", "Reason", "Target", "Threshold"]
