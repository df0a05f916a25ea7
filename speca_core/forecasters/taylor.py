"""The paper's Taylor ladder (TaylorSeer, arXiv 2503.06923; SpeCa, arXiv 2509.11628)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial

from ..settings import number
from .base import Linear


def ladder(coordinates: Sequence[float]) -> list[list[float]]:
    """D^0, D^1, ... at the newest anchor, as weights over the anchors; one fewer difference than
    anchors."""
    count = len(coordinates)
    # D^j at every anchor that has one.
    level = [[float(i == k) for k in range(count)] for i in range(count)]
    derivatives = [level[-1]]
    for j in range(1, count):
        gaps = [coordinates[i] - coordinates[i - 1] for i in range(j, count)]
        level = [
            [(new - old) / h for new, old in zip(level[i], level[i - 1], strict=True)]
            for i, h in enumerate(gaps, 1)
        ]
        derivatives.append(level[-1])
    return derivatives


@dataclass(frozen=True)
class Taylor(Linear):
    """F(s) = sum_j D^j(n) (s - s_n)^j / j!, a Taylor polynomial of finite differences.

        D^0(n) = F_n,   D^j(n) = (D^(j-1)(n) - D^(j-1)(n-1)) / (s_n - s_(n-1))

    This is the published rule: each difference is divided by the newest gap only, so it is exact
    for linear features and, on evenly spaced anchors, a backward-difference Taylor polynomial;
    with uneven gaps the curvature is off (`newton` is exact there).
    """

    name = "taylor"
    help = "Finite-difference Taylor ladder, as in TaylorSeer and SpeCa"

    order: int = number(
        1,
        0,
        3,
        1,
        "Highest derivative. 0 reuses, 1 follows the line, 2 and 3 follow curvature, "
        "and amplify noise",
    )

    @property
    def min_anchors(self) -> int:
        return self.order + 1

    @property
    def depth(self) -> int:
        return self.order + 1

    def weights(self, coordinates: Sequence[float], at: float) -> list[float]:
        """Weights of the ladder over the newest order + 1 anchors."""
        distance = at - coordinates[-1]
        total = [0.0] * len(coordinates)
        for j, derivative in enumerate(ladder(coordinates)):
            scale = distance**j / factorial(j)
            total = [t + scale * d for t, d in zip(total, derivative, strict=True)]
        return total
