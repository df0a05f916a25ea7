"""Two forecasts of different order must agree: the error estimate of embedded Runge-Kutta pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ..axis import lagrange
from ..subject import Draft, Head
from .base import Verifier


@dataclass(frozen=True)
class Embedded(Verifier):
    """error = ||v_2 - v_1|| / ||v_1||, with v_m the model's output from the polynomial of degree m.

    The polynomials go through the newest m + 1 anchors. No block runs; at level features a draft
    costs the head once per forecast, and the sizes of the features count if they are further apart.
    It measures how far curvature bends the forecast, and sees nothing that no anchor shows.
    docs/methods.md says how well it foretells the true error.
    """

    name = "embedded"
    help = "Free check: forecasts of order 1 and 2 must agree in the model's output"
    depth: ClassVar[int] = 3
    min_anchors: ClassVar[int] = 2

    def embedded_pair(
        self, coordinates: Sequence[float], at: float
    ) -> tuple[list[float], list[float]]:
        """Weights of the forecasts of degree 1 and 2; with two anchors of degree 0 and 1."""
        newest = list(coordinates[-3:])
        lower = newest[-2:] if len(newest) == 3 else newest[-1:]
        pad = [0.0] * (len(coordinates) - len(newest))
        padded = [0.0] * (len(coordinates) - len(lower))
        return padded + lagrange(lower, at), pad + lagrange(newest, at)

    def verify(self, draft: Draft, head: Head, drafted: Any) -> Any:
        """Compare the head's results for the two forecasts, and at level features their sizes:
        most heads normalise, and do not see those."""
        pair = draft.embedded_pair()
        if pair is None:
            draft.reject()
            return drafted

        def seen(forecast: torch.Tensor) -> tuple[Any, torch.Tensor | None]:
            result = head(forecast)
            return result, None if result is forecast else sizes(forecast)

        (low, less), (high, more) = map(seen, pair)  # one forecast at a time
        errors = self.difference(head, high, low)
        if less is not None and more is not None:
            errors = torch.maximum(errors, (more / less - 1).abs())
        draft.judge(errors)
        return drafted


def sizes(features: torch.Tensor) -> torch.Tensor:
    """Of each row, [rows], in float32."""
    norms: torch.Tensor = torch.linalg.vector_norm(features.flatten(1), dim=1, dtype=torch.float32)
    return norms
