"""No check: every draft that the budget allows is served."""

from dataclasses import dataclass
from typing import ClassVar

from .base import Verifier


@dataclass(frozen=True)
class NoCheck(Verifier):
    """The budget alone decides. What TaylorSeer and most caches do."""

    name = "none"
    help = "No check: the budget alone decides, as in TaylorSeer and most caches"
    judges_drafts: ClassVar[bool] = False
