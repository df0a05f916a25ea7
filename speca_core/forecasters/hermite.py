"""Hermite polynomials in place of powers, as in HiCache (arXiv 2508.16984), derived anew."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..settings import number
from .base import Linear
from .taylor import ladder


@dataclass(frozen=True)
class Hermite(Linear):
    """F(s) = F_0 + D^1 H_1(k) / 1! + D^2 H_2(k) / 2!   with   H_n(k) = sigma^n He_n(sigma k).

        He_1(x) = 2x,   He_2(x) = 4x^2 - 2

    D^j is the Taylor ladder. So it is a Taylor forecast of order 2 at the shortened horizon
    2 sigma^2 k, less sigma^2 D^2: sigma damps.
    """

    name = "hermite"
    help = "Taylor ladder with Hermite polynomials, damped by sigma, as in HiCache"
    min_anchors = 3
    depth = 3

    sigma: float = number(0.5, 0.1, 1.0, 0.05, "Contraction. 0.5 halves the horizon, 0.71 keeps it")

    def weights(self, coordinates: Sequence[float], at: float) -> list[float]:
        horizon = 2 * self.sigma**2 * (at - coordinates[-1])
        newest, first, second = ladder(coordinates)
        return [
            n + horizon * d1 + (horizon**2 / 2 - self.sigma**2) * d2
            for n, d1, d2 in zip(newest, first, second, strict=True)
        ]
