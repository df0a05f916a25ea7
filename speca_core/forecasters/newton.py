"""Polynomial through the anchors at their true positions (Newton's divided differences in Lagrange form)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ..knobs import Settings, knob


def lagrange(coordinates: Sequence[float], at: float) -> list[float]:
    """Weights of the one polynomial through all given coordinates: w_i = prod_(j != i) (at - s_j) / (s_i - s_j)."""
    return [prod((at - b) / (a - b) for b in coordinates if b != a) for a in coordinates]


@dataclass(frozen=True)
class Newton(Settings):
    """The polynomial of degree `order` through the newest order + 1 anchors: exact for such features however uneven the gaps."""

    name = "newton"
    help = "Polynomial through the newest anchors, exact for uneven gaps"

    order: int = knob(1, 0, 3, 1, "Degree of the polynomial. 0 reuses, 1 follows the line, 2 and 3 follow curvature and amplify noise")

    @property
    def min_anchors(self) -> int:
        """One more than the order."""
        return self.order + 1

    @property
    def depth(self) -> int:
        """One more than the order."""
        return self.order + 1

    def weights(self, coordinates: Sequence[float], at: float) -> list[float]:
        """Lagrange weights of the newest order + 1 anchors."""
        return lagrange(coordinates, at)
