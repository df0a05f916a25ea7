"""How a model answers to a latent that is off its path.

Shown x + e in place of x, it answers v + J e + nu |e| n, with n noise of unit size: a part along
the error, and a part in directions that nobody knows. Under guidance both are large at high noise;
there errors grow, and forecasts must be shorter.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import torch

# (sigma, J, nu) of a small flow model by guidance, measured on 8 pictures: the difference of two
# answers, regressed on that of the latents.
MEASURED: dict[float, list[tuple[float, float, float]]] = {
    1.0: [
        (0.0, -0.8, 2.5), (0.407, -0.8, 2.6), (0.513, -1.7, 2.8), (0.637, -2.5, 3.5),
        (0.732, -2.3, 3.8), (0.808, -2.8, 5.0), (0.87, -1.8, 3.1), (0.921, -1.7, 4.0),
        (0.963, -1.0, 3.0), (1.0, 0.0, 0.0),
    ],
    3.5: [
        (0.0, -1.0, 2.0), (0.275, -1.4, 2.2), (0.345, -1.4, 2.3), (0.463, -2.0, 2.6),
        (0.558, -2.0, 3.5), (0.69, -2.5, 5.5), (0.732, -2.0, 7.5), (0.808, 2.0, 11.0),
        (0.85, 4.5, 12.5), (0.888, 6.0, 12.5), (0.905, 8.0, 13.5), (0.936, 10.0, 14.0),
        (0.95, 9.0, 15.0), (0.976, 11.8, 15.4), (1.0, 0.0, 0.0),
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Reaction:
    """At some noise levels: J and nu of the answer v + J e + nu |e| n, [T] each, float64."""

    linear: torch.Tensor
    noise: torch.Tensor


def reaction(sigmas: Sequence[float], guidance: float, flow: bool) -> Reaction:
    """The reaction to expect.

    Args:
        sigmas: noise levels, T of them.
        guidance: CFG scale; 1 if the prompts are not told apart. Between and beyond the measured
            ones it is taken as a straight line.
        flow: the model is a flow model; otherwise sigma is noise over signal, and slopes are noise.
    """
    share = (max(guidance, 1.0) - 1.0) / 2.5
    rows = []
    for sigma in sigmas:
        level = sigma if flow else sigma / (1 + sigma)
        low, high = (_at(MEASURED[of], level) for of in (1.0, 3.5))
        j, nu = (a + share * (b - a) for a, b in zip(low, high, strict=True))
        if not flow and sigma > 0:
            # x' = x / (1 + sigma) and v' = noise - image make it a flow; back from there.
            j, nu = (1 - (1 - level * j) * (1 - level)) / sigma, nu * (1 - level) ** 2
        rows.append((j, nu))
    table = torch.tensor(rows, dtype=torch.float64)
    return Reaction(table[:, 0], table[:, 1])


def _at(table: Sequence[tuple[float, float, float]], sigma: float) -> tuple[float, float]:
    """J and nu on the straight lines between the table's."""
    index = min(max(bisect_left(table, (sigma,)), 1), len(table) - 1)
    (a, *low), (b, *high) = table[index - 1], table[index]
    t = min(max((sigma - a) / (b - a), 0.0), 1.0)
    j, nu = (x + t * (y - x) for x, y in zip(low, high, strict=True))
    return j, nu
