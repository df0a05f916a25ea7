"""How a model answers to a latent that is off its path.

Shown x + e in place of x, it answers v + J e + nu |e| n, with n noise of unit size: a part along
the error, and a part in directions that nobody knows. Under guidance both are large at high noise;
there errors grow, and forecasts must be shorter.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import torch

TINY = 1e-12
REACH = 2  # levels to either side
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


Row = tuple[float, float, float]  # sigma, J, nu


def reaction(
    sigmas: Sequence[float], guidance: float, flow: bool, own: Sequence[Row] = ()
) -> Reaction:
    """The reaction to expect.

    Args:
        sigmas: noise levels, T of them.
        guidance: CFG scale; 1 if the prompts are not told apart. Between and beyond the measured
            ones it is taken as a straight line.
        flow: the model is a flow model; otherwise sigma is noise over signal, and slopes are noise.
        own: what was measured on the model itself, by rising sigma, at least two rows; it stands in
            place of the table.
    """
    if own:
        table = torch.tensor([_at(own, sigma) for sigma in sigmas], dtype=torch.float64)
        return Reaction(table[:, 0], table[:, 1])
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


class Reactions:
    """Measures a model's reaction: runs that were off their path, beside plain ones."""

    def __init__(self) -> None:
        self._sums: dict[float, list[float]] = {}  # by sigma: <e, e>, <dv, e>, <dv, dv>

    def add(self, sigma: float, error: torch.Tensor, answer: torch.Tensor) -> None:
        """At `sigma` a latent was off by `error`, and the model's slope by `answer`; both of the
        same shape."""
        e, dv = error.double().flatten(), answer.double().flatten()
        sums = self._sums.setdefault(sigma, [0.0, 0.0, 0.0])
        for i, product in enumerate((e @ e, dv @ e, dv @ dv)):
            sums[i] += float(product)

    def rows(self) -> tuple[Row, ...]:
        """The reaction by rising sigma; empty if fewer than two levels were seen off their path."""
        found = []
        levels = sorted(self._sums)
        for i, sigma in enumerate(levels):
            # Few pictures tell little of one level: its neighbours are heard as well.
            near = [self._sums[level] for level in levels[max(0, i - REACH) : i + REACH + 1]]
            # Each counts as much, however far off its pictures were.
            told = [(1.0, dv_e / e_e, dv_dv / e_e) for e_e, dv_e, dv_dv in near if e_e > 0]
            e_e, dv_e, dv_dv = (
                (sum(each) for each in zip(*told, strict=True)) if told else (0, 0, 0)
            )
            if e_e > TINY * dv_dv and e_e > 0:
                linear = dv_e / e_e
                found.append((sigma, linear, math.sqrt(max(dv_dv / e_e - linear**2, 0.0))))
        return tuple(found) if len(found) > 1 else ()


def _at(table: Sequence[Row], sigma: float) -> tuple[float, float]:
    """J and nu on the straight lines between the table's."""
    index = min(max(bisect_left(table, (sigma,)), 1), len(table) - 1)
    (a, *low), (b, *high) = table[index - 1], table[index]
    t = min(max((sigma - a) / (b - a), 0.0), 1.0)
    j, nu = (x + t * (y - x) for x, y in zip(low, high, strict=True))
    return j, nu
