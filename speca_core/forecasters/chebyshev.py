"""Ridge regression on Chebyshev polynomials, as in Spectrum (arXiv 2603.01623), with weights that
sum to one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.chebyshev import chebvander

from ..settings import number
from .base import Linear


@dataclass(frozen=True)
class Chebyshev(Linear):
    """F(s) = F_0 + (phi(t) - phi(t_0)) (P'P + lambda I)^-1 P' (F - F_0).

        P_i = phi(t_i) - phi(t_0),   phi = (T_1 .. T_M)

    t runs from -1 at the oldest anchor to 1 at s. Spectrum penalises the constant T_0 too, so that
    its weights sum to less than one; here the fit is made on differences to the newest anchor,
    which needs no constant.
    """

    name = "chebyshev"
    help = "Ridge regression on Chebyshev polynomials, as in Spectrum"
    min_anchors = 3

    degree: int = number(3, 1, 6, 1, "Highest polynomial")
    ridge: float = number(0.1, 0.001, 10.0, 0.001, "Strength of the penalty; larger is flatter")
    anchors: int = number(6, 3, 12, 1, "How many anchors are fitted")

    @property
    def depth(self) -> int:
        return self.anchors

    def weights(self, coordinates: Sequence[float], at: float) -> list[float]:
        places = np.asarray([*coordinates, at], np.float64)
        t = 2 * (places - places[0]) / (places[-1] - places[0]) - 1
        basis = chebvander(t, self.degree)[:, 1:]
        rows = basis[:-1] - basis[-2]
        target = basis[-1] - basis[-2]
        w = target @ np.linalg.solve(rows.T @ rows + self.ridge * np.eye(self.degree), rows.T)
        w[-1] += 1 - w.sum()
        return [float(v) for v in w]
