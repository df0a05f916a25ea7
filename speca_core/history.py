"""Anchors: what was really computed, and where on the schedule."""

from collections.abc import Sequence

import torch

from .schedule import SAME_PLACE


class FeatureHistory:
    """The newest `depth` anchors of one tap of one lane, oldest first.

    Raw features are kept, not derivative ladders: nearly every published forecaster is one weighted sum of a few anchors, and
    differences of nearly equal bfloat16 tensors would be mostly rounding noise.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.coordinates: tuple[float, ...] = ()
        self.anchors: tuple[torch.Tensor, ...] = ()

    def record(self, at: float, feature: torch.Tensor) -> None:
        """Keep a copy of `feature` (any shape and dtype, on any device) as the anchor at the coordinate `at`.

        The copy is essential: blocks write into their residual stream in place. An anchor at the same place is replaced.
        """
        kept = [(s, f) for s, f in zip(self.coordinates, self.anchors, strict=True) if abs(s - at) > SAME_PLACE]
        kept = [*kept, (at, feature.clone())][-self.depth :]
        self.coordinates = tuple(s for s, _ in kept)
        self.anchors = tuple(f for _, f in kept)

    def has(self, at: float) -> bool:
        """Whether there is an anchor at the coordinate `at`."""
        return any(abs(s - at) <= SAME_PLACE for s in self.coordinates)

    @property
    def nbytes(self) -> int:
        """Memory held by the anchors, in bytes."""
        return sum(a.nbytes for a in self.anchors)


def weighted_sum(weights: Sequence[float], anchors: Sequence[torch.Tensor]) -> torch.Tensor:
    """sum_i weights[i] * anchors[i], accumulated in float32, returned in the anchors' dtype and shape.

    One full-size float32 accumulator is the only temporary. A zero weight skips its anchor.
    """
    terms = [(w, a) for w, a in zip(weights, anchors, strict=True) if w != 0.0]
    if not terms:
        return torch.zeros_like(anchors[-1])
    if len(terms) == 1 and terms[0][0] == 1.0:
        return terms[0][1]
    total = terms[0][1].float() * terms[0][0]
    for weight, anchor in terms[1:]:
        total.add_(anchor, alpha=weight)
    return total.to(terms[0][1].dtype)
