"""Serve the newest anchor unchanged (FORA, TeaCache and their kin)."""

from collections.abc import Sequence
from dataclasses import dataclass

from .base import Linear


@dataclass(frozen=True)
class Reuse(Linear):
    """F(s) = F_n. Exact for constant features only."""

    name = "reuse"
    help = "The newest computed feature, unchanged"
    min_anchors = 1
    depth = 1

    def weights(self, coordinates: Sequence[float], at: float) -> list[float]:
        """All weight on the newest anchor."""
        return [0.0] * (len(coordinates) - 1) + [1.0]
