"""How far curvature may be trusted, fitted to the run itself: HyCa's per-dimension solver choice (arXiv 2510.04188) without calibration."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..history import weighted_sum
from ..knobs import Settings, knob
from ..polynomial import lagrange

TINY = 1e-12  # keeps 0/0 finite


@dataclass(frozen=True)
class Fitted(Settings):
    """F(s) = P_1(s) + l (P_2(s) - P_1(s)), with P_m the polynomial through the newest m + 1 anchors, and l in 0..1 found from the run.

    The newest anchor is held out: a is what orders 1 and 2 through the anchors before it differ by there, b what order 1 is off by.
    Ridge regression pulls l = (<a, b> + ridge <a, a> / 2) / ((1 + ridge) <a, a>) towards one half. One l for the whole feature, or one
    for each channel (the last dimension).
    """

    name = "fitted"
    help = "Orders 1 and 2 mixed in the proportion that would have foretold the newest anchor best"
    min_anchors = 3
    depth = 4

    ridge: float = knob(0.3, 0.0, 10.0, 0.1, "Pull towards an even mix. 0 trusts the fit alone")
    channels: int = knob(0, 0, 1, 1, "1: a proportion of its own for each channel, 0: one for all")

    def forecast(self, coordinates: Sequence[float], anchors: Sequence[torch.Tensor], at: float) -> torch.Tensor:
        """See `Forecaster.forecast`; with three anchors the mix is even."""
        line, bend = self._line_and_bend(coordinates, anchors, at)
        if len(anchors) < 4:
            return (line + bend / 2).to(anchors[-1].dtype)
        held, a = self._line_and_bend(coordinates[:-1], anchors[:-1], coordinates[-1])
        b = anchors[-1].float() - held
        aa, ab = self._sum(a * a), self._sum(a * b)
        share = ((ab + self.ridge * aa / 2) / ((1 + self.ridge) * aa + TINY)).clamp(0, 1)
        return (line + share * bend).to(anchors[-1].dtype)

    def _line_and_bend(self, coordinates: Sequence[float], anchors: Sequence[torch.Tensor], at: float) -> tuple[torch.Tensor, torch.Tensor]:
        """(P_1(at), P_2(at) - P_1(at)), float32."""
        newest = [anchor.float() for anchor in anchors[-3:]]
        line = weighted_sum(lagrange(coordinates[-2:], at), newest[-2:])
        return line, weighted_sum(lagrange(coordinates[-3:], at), newest) - line

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        """Over everything, or over everything but the last dimension."""
        return values.sum(tuple(range(values.ndim - 1))) if self.channels and values.ndim > 1 else values.sum()
