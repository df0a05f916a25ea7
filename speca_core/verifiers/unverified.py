"""No check: every draft that the budget grants is served."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..knobs import Settings
from .base import Runs, relative_error


@dataclass(frozen=True)
class Unverified(Settings):
    """Serves every draft without running a block; the budget alone decides. What TaylorSeer and most caches do."""

    name = "none"
    help = "No check: the budget alone decides, as TaylorSeer and most caches do"
    runs: ClassVar[Runs] = "none"

    def error(self, forecast: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Relative error, for the hindcast only; drafts are never scored."""
        return relative_error(forecast, reference)
