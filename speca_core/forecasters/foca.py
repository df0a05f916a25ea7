"""Forecast, then calibrate: a BDF2 predictor and a Heun corrector (FoCa, arXiv 2508.16211), on
uneven anchors."""

from collections.abc import Sequence
from dataclasses import dataclass

from .base import Linear


@dataclass(frozen=True)
class FoCa(Linear):
    """F(s) = F_0 + k F',   k = s - s_0,   with F' the slope at s_0 of the parabola through the
    three newest anchors.

    FoCa predicts F_p = 4/3 F_0 - 1/3 F_1 + 2/3 k F' and corrects F = F_0 + k/2 (F' + F_p'), where
    F_p' is the BDF2 slope at s. But the predictor is that very BDF2 formula solved for F_p with
    slope F', so F_p' = F' and the correction comes to the line above.
    """

    name = "foca"
    help = "Line with the end slope of the parabola through three anchors, as in FoCa"
    min_anchors = 3
    depth = 3

    def weights(self, coordinates: Sequence[float], at: float) -> list[float]:
        s2, s1, s0 = coordinates
        h1, h2, k = s0 - s1, s0 - s2, at - s0
        return [
            k * h1 / (h2 * (h2 - h1)),
            -k * h2 / (h1 * (h2 - h1)),
            1 + k * (h1 + h2) / (h1 * h2),
        ]
