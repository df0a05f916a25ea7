"""How far slope and curvature may be trusted, fitted to the run itself: HyCa's choice of solvers
(arXiv 2510.04188), not calibrated."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..axis import lagrange
from ..settings import Settings, number, switch
from ..tensors import weighted_sum

TINY = 1e-12  # keeps 0/0 finite


@dataclass(frozen=True)
class Fitted(Settings):
    """F(s) = P_0 + k ((P_1(s) - P_0) + l (P_2(s) - P_1(s))),   P_m through the newest m + 1
    anchors.

    k and l are found from the run, with the newest anchor held out. Let y be what it differs by
    from the one before it, a what the line through the anchors before it says of y, and b what the
    parabola adds to that. Ridge regression of y - a on b, pulled towards one half, gives l; that of
    y on a + l b, pulled towards 1, gives k; both are kept in 0..1. Where features turn between two
    anchors, as under strong guidance or in long streaks, k falls, and the forecast falls back to
    reuse. One pair for the whole feature, or one for each channel (the last dimension).
    """

    name = "fitted"
    help = "Reuse, line and parabola, mixed as would have predicted the newest anchor best"
    min_anchors = 3
    depth = 4

    ridge: float = number(
        0.3,
        0.0,
        10.0,
        0.1,
        "Pull towards the line and half of the parabola's bend. 0 trusts the fit alone",
    )
    channels: bool = switch(
        False, "A proportion of its own for each channel, in place of one for all"
    )

    def forecast(
        self, coordinates: Sequence[float], anchors: Sequence[torch.Tensor], at: float
    ) -> torch.Tensor:
        """See `Forecaster.forecast`; with three anchors nothing can be held out, and the mix is the
        line and half of the bend."""
        known = [anchor.float() for anchor in anchors]
        line, bend = line_and_bend(coordinates, known, at)
        if len(known) < 4:
            return (known[-1] + line + bend / 2).to(anchors[-1].dtype)
        y = known[-1] - known[-2]
        a, b = line_and_bend(coordinates[:-1], known[:-1], coordinates[-1])
        bent = self._share(y - a, b, 0.5)
        kept = self._share(y, a + bent * b, 1.0)
        return (known[-1] + kept * (line + bent * bend)).to(anchors[-1].dtype)

    def _share(self, truth: torch.Tensor, guess: torch.Tensor, prior: float) -> torch.Tensor:
        """The factor in 0..1 that brings `guess` nearest to `truth`, pulled towards `prior`."""
        size = self._sum(guess * guess)
        return (
            (self._sum(guess * truth) + self.ridge * prior * size + TINY * prior)
            / ((1 + self.ridge) * size + TINY)
        ).clamp(0, 1)

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        """Over everything, or over everything but the last dimension."""
        return (
            values.sum(tuple(range(values.ndim - 1)))
            if self.channels and values.ndim > 1
            else values.sum()
        )


def line_and_bend(
    coordinates: Sequence[float], known: Sequence[torch.Tensor], at: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(P_1(at) - P_0, P_2(at) - P_1(at)) through the newest anchors, float32."""
    line = weighted_sum(lagrange(coordinates[-2:], at), known[-2:])
    return line - known[-1], weighted_sum(lagrange(coordinates[-3:], at), known[-3:]) - line
