"""Two forecasts of different order must agree: the error estimate of embedded Runge-Kutta pairs, applied to features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from ..knobs import Settings
from ..polynomial import lagrange
from .base import Runs, relative_error


@dataclass(frozen=True)
class Embedded(Settings):
    """error = ||v_2 - v_1|| / ||v_1||, with v_m the model's output from the polynomial of degree m through the newest m + 1 anchors.

    No block runs; the draft costs the head once per opinion. It measures how far curvature bends the forecast. On our test bed
    the true error is about 1.1 times as large, with and without guidance (docs/verifiers.md).
    """

    name = "embedded"
    help = "Free check: forecasts of order 1 and 2 must agree in the model's output"
    runs: ClassVar[Runs] = "none"
    depth: ClassVar[int] = 3
    min_anchors: ClassVar[int] = 2

    def opinions(self, coordinates: Sequence[float], at: float) -> tuple[list[float], list[float]]:
        """Weights of the two forecasts: degree 1 and 2; with two anchors degree 0 and 1."""
        newest = list(coordinates[-3:])
        lower = newest[-2:] if len(newest) == 3 else newest[-1:]
        pad = [0.0] * (len(coordinates) - len(newest))
        return [0.0] * (len(coordinates) - len(lower)) + lagrange(lower, at), pad + lagrange(newest, at)

    def error(self, forecast: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Relative disagreement of the two outputs; see `relative_error`."""
        return relative_error(forecast, reference)
