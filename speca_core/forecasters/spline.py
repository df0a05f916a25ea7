"""Natural cubic spline through the anchors, extrapolated along its end slope."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..settings import number
from .base import Linear


@dataclass(frozen=True)
class Spline(Linear):
    """Weights w of the natural cubic spline through the anchors c_i, at s, solve

        | K  1  d | | w  |   | k |        K_ij = |c_i - c_j|^3,   d_i = c_i - s,
        | 1' 0  0 | | m1 | = | 1 |        k_i  = |c_i - s|^3
        | d' 0  0 | | m2 |   | 0 |

    (the same as kriging with the covariance |h|^3 and a linear trend). Beyond the newest anchor the
    natural spline is a straight line with its end slope, so it looks at up to four anchors and yet
    amplifies their jitter little. Exact on lines.
    """

    name = "spline"
    help = "Natural cubic spline through the newest anchors, continued along its end slope"
    min_anchors = 2

    anchors: int = number(4, 2, 8, 1, "How many anchors the spline goes through")

    @property
    def depth(self) -> int:
        return self.anchors

    def weights(self, coordinates: Sequence[float], at: float) -> list[float]:
        c = np.asarray(coordinates, np.float64)
        n, d = len(c), c - at
        system = np.zeros((n + 2, n + 2))
        system[:n, :n] = np.abs(c[:, None] - c[None, :]) ** 3
        system[:n, n] = system[n, :n] = 1.0
        system[:n, n + 1] = system[n + 1, :n] = d
        right = np.concatenate([np.abs(d) ** 3, [1.0, 0.0]])
        return [float(w) for w in np.linalg.solve(system, right)[:n]]
