"""No check: every draft that the budget grants is served."""

from dataclasses import dataclass
from typing import ClassVar

from .base import BlockCheck, Runs


@dataclass(frozen=True)
class Unverified(BlockCheck):
    """Serves every draft without running a block; the budget alone decides. What TaylorSeer and most caches do."""

    name = "none"
    help = "No check: the budget alone decides, as TaylorSeer and most caches do"
    runs: ClassVar[Runs] = "none"
