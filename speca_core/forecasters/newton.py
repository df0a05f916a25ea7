"""Polynomial through the anchors at their true positions (Newton's divided differences in Lagrange
form), damped."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..axis import lagrange
from ..settings import number
from .base import Linear


@dataclass(frozen=True)
class Newton(Linear):
    """F(s) = (1 - damping) P_order(s) + damping P_(order-1)(s), with P_m the polynomial through the
    newest m + 1 anchors.

    Undamped it is exact for polynomials of its order however uneven the gaps. Damping keeps the
    lower order's share: half of orders 1 and 2 measured better than either alone, most of all under
    guidance, because the sum of |weights|, which multiplies the anchors' own jitter, is smaller
    than at order 2.
    """

    name = "newton"
    help = "Polynomial through the newest anchors, damped towards the next lower order"

    order: int = number(
        2,
        0,
        3,
        1,
        "Degree of the polynomial. 0 reuses, 1 follows the line, 2 and 3 follow curvature, "
        "and amplify noise",
    )
    damping: float = number(
        0.5,
        0.0,
        1.0,
        0.05,
        "Share of the next lower order. 0 is the pure polynomial, 1 the next lower one",
    )

    @property
    def min_anchors(self) -> int:
        return self.order + 1

    @property
    def depth(self) -> int:
        return self.order + 1

    def weights(self, coordinates: Sequence[float], at: float) -> list[float]:
        """Lagrange weights of the newest order + 1 anchors, damped."""
        full = lagrange(coordinates, at)
        if self.order == 0:
            return full
        lower = [0.0, *lagrange(coordinates[1:], at)]
        return [(1 - self.damping) * w + self.damping * v for w, v in zip(full, lower, strict=True)]
