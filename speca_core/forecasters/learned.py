"""What plain runs of this very model have shown: least squares on its own slopes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..courses import WINDOW
from .base import Linear


@dataclass(frozen=True)
class Learned(Linear):
    """v_n is estimated from x_0 and the newest three computed slopes, with weights that follow from
    the Gram matrix of the model's plain runs; see `courses.py`.

    It needs a profile of the model, which the first run of an unknown model makes.
    """

    name = "learned"
    help = "Learns from a plain run of your own model how its outputs follow from each other"
    min_anchors: ClassVar[int] = 1
    depth: ClassVar[int] = WINDOW

    def weights(self, coordinates: Sequence[float], at: float) -> list[float]:
        """Reuse: without a profile nothing is known. Runs that have one ask its path model."""
        return [0.0] * (len(coordinates) - 1) + [1.0]
