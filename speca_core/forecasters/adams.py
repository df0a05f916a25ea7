"""Two-step Adams-Bashforth, as PrediT predicts (arXiv 2602.18093)."""

from collections.abc import Sequence
from dataclasses import dataclass

from .base import Linear


@dataclass(frozen=True)
class AdamsBashforth(Linear):
    """F(s) = F_0 + k ((1 + k / 2h_1) f_0 - (k / 2h_1) f_1),   k = s - s_0.

        f_0 = (F_0 - F_1) / h_1,   f_1 = (F_1 - F_2) / h_2

    The variable-step form with differenced slopes; on even anchors and k = h it is
    F_0 + 3/2 (F_0 - F_1) - 1/2 (F_1 - F_2).
    """

    name = "adams"
    help = "Two-step Adams-Bashforth on differenced slopes, as in PrediT"
    min_anchors = 3
    depth = 3

    def weights(self, coordinates: Sequence[float], at: float) -> list[float]:
        s2, s1, s0 = coordinates
        h1, h2, k = s0 - s1, s1 - s2, at - s0
        new, old = k * (1 + k / (2 * h1)) / h1, -k * k / (2 * h1) / h2
        return [-old, old - new, 1 + new]
