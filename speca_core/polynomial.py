"""The polynomial through a few points, as weights of those points."""

from collections.abc import Sequence
from math import prod


def lagrange(coordinates: Sequence[float], at: float) -> list[float]:
    """Weights of the one polynomial through all given coordinates: w_i = prod_(j != i) (at - s_j) / (s_i - s_j).

    Args:
        coordinates: distinct places. at: where the polynomial is evaluated.

    Returns:
        One weight per coordinate; they sum to 1.
    """
    return [prod((at - b) / (a - b) for b in coordinates if b != a) for a in coordinates]
